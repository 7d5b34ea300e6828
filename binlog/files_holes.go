package binlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// inventory is what the files hold.
type inventory struct {
	files    []contents // in their order
	executed gtid.Set   // everything up to their end, what is gone included
	gone     gtid.Set   // of executed, what they do not hold; of MariaDB, what came before all of them
	inOrder  bool       // each was written behind all that those before it hold
	holes    []hole
	notes    []string
}

// contents are what one file holds.
type contents struct {
	holds  gtid.Set  // its whole transactions
	newest written   // of MariaDB the same, by server
	last   time.Time // the newest commit; zero where none is known
	cut    string    // where it is cut off; "" if it is whole
}

// lookedAt is what was found in a file, and the file as it was then.
type lookedAt struct {
	file binlogFile
	contents
}

// found returns what was found, by path.
func (f *Files) found() map[string]lookedAt {
	if f == nil {
		return nil
	}
	f.looking.Lock()
	defer f.looking.Unlock()
	if f.have == nil {
		return nil
	}
	all := make(map[string]lookedAt, len(f.files))
	for i, file := range f.files {
		all[file.path] = lookedAt{file, f.have.files[i]}
	}
	return all
}

// same says that a file has not changed: one that is still written to grows, and
// another one in its place has another time, or another history before it.
func (f *binlogFile) same(g *binlogFile) bool {
	return f.size == g.size && f.modified.Equal(g.modified) && f.begun.Equal(g.begun) && f.server == g.server && f.before.String() == g.before.String()
}

// written is the newest sequence number of each server in each domain of MariaDB,
// by "domain-server". A set has the newest of a domain only, but servers that write
// to one domain beside each other need not count on from one another.
type written map[string]int64

// add takes "domain-server-number".
func (w written) add(id string) {
	i := strings.LastIndexByte(id, '-')
	if n, err := strconv.ParseInt(id[i+1:], 10, 64); err == nil && i > 0 {
		w[id[:i]] = max(w[id[:i]], n)
	}
}

func (w written) union(v written) {
	for server, n := range v {
		w[server] = max(w[server], n)
	}
}

// hole is what is missing between a file and the one before it.
type hole struct {
	note string
	// lost are the transactions. Of MariaDB it is empty where all have lower numbers
	// than others of their domain: a set cannot name them then.
	lost   gtid.Set
	before gtid.Set  // everything up to the hole
	behind gtid.Set  // what came before the file behind it
	last   time.Time // the newest commit before it; zero where that is not known
	// within says that the files before it hold older ones of the same server, or
	// domain. Of others nobody knows when they were committed: perhaps long ago.
	within bool
}

// scan reads through the files for the GTIDs of whole transactions.
func (f *Files) scan(ctx context.Context) (*inventory, error) {
	have := &inventory{files: make([]contents, len(f.files)), inOrder: true}
	var held gtid.Set
	var cuts []string
	for i, file := range f.files {
		var err error
		if old, ok := f.earlier[file.path]; ok && old.file.same(&file) {
			have.files[i] = old.contents
		} else if have.files[i], err = file.transactions(ctx, f.cfg); err != nil {
			return nil, err
		}
		if cut := have.files[i].cut; cut != "" {
			cuts = append(cuts, fmt.Sprintf("%s %s: what follows there is not replayed, and what it changed must be covered by a whole copy of the file, or by a replay of the tables.", file.path, cut))
		}
		held.Union(have.files[i].holds)
		if i > 0 {
			have.inOrder = have.inOrder && file.before.HasAll(f.files[i-1].before) && file.before.HasAll(have.files[i-1].holds)
		}
	}
	have.executed, have.gone = f.files[0].before, f.files[0].before
	reached := written{}
	for i, file := range f.files {
		if i > 0 {
			f.between(have, i, held, reached)
		}
		if !f.srv.MariaDB() {
			have.gone.Union(file.before)
		}
		have.executed.Union(file.before)
		have.executed.Union(have.files[i].holds)
		reached.union(file.list)
		reached.union(have.files[i].newest)
	}
	if !f.srv.MariaDB() { // a position of MariaDB cannot have a hole
		have.gone = have.gone.Minus(held)
	}
	have.notes = append(have.notes, cuts...)
	return have, ctx.Err()
}

// between notes what is missing between the file i and the one before it: what the
// server says came before the file, and none of those before it holds. reached is
// how far each server of MariaDB had written by then.
func (f *Files) between(have *inventory, i int, held gtid.Set, reached written) {
	file := &f.files[i]
	h := hole{lost: file.before.Minus(have.executed), before: have.executed, behind: file.before}
	if !f.srv.MariaDB() { // files of two servers may hold what each other lack
		h.lost = h.lost.Minus(held)
	}
	missing := strconv.FormatInt(gtid.Set{}.Missing(h.lost), 10)
	h.within = related(h.lost, have.executed)
	if h.lost.Empty() {
		missing = "some"
		hidden := false
		for server, n := range file.list {
			hidden = hidden || n > reached[server]
			h.within = h.within || reached[server] > 0 && n > reached[server]
		}
		if !hidden {
			return
		}
	}
	for j := i - 1; have.inOrder && h.last.IsZero() && j >= 0; j-- {
		h.last = have.files[j].last // none where the file has no transactions
	}
	h.note = fmt.Sprintf("Between %s and %s, %s transactions are missing: give the files between, or replay the tables.", f.files[i-1].path, file.path, missing)
	have.holes, have.notes = append(have.holes, h), append(have.notes, h.note)
}

// related says whether two sets have transactions of the same server of MySQL, or
// in the same domain of MariaDB.
func related(a, b gtid.Set) bool {
	of := map[string]bool{}
	for i, set := range []gtid.Set{a, b} {
		for part := range strings.SplitSeq(set.String(), ",") {
			name, _, ok := strings.Cut(part, ":")
			if !ok {
				name, _, _ = strings.Cut(part, "-")
			}
			if i == 1 && of[name] {
				return true
			}
			of[name] = name != ""
		}
	}
	return false
}

// Holes returns, in whole sentences, what is missing between files of a range: the
// transactions in want that come behind the position from, or, where want is empty,
// those that were committed by until, or at any time if that is zero. What came
// before the first file is not a hole.
func (f *Files) Holes(ctx context.Context, from pipeline.Position, want gtid.Set, until time.Time) ([]string, error) {
	have, err := f.look(ctx)
	if err != nil {
		return nil, err
	}
	set, err := f.set(from)
	if err != nil {
		return nil, err
	}
	var notes []string
	for _, h := range have.holes {
		crossed := !set.HasAll(h.behind)
		switch {
		case want.Empty(): // reading goes on a little behind the time
			crossed = crossed && h.within && (until.IsZero() || !h.last.After(until.Add(sinceSlack)))
		case h.lost.Empty():
			crossed = crossed && !h.before.HasAll(want)
		default:
			crossed = !h.lost.Intersect(want).Empty()
		}
		if crossed {
			notes = append(notes, h.note)
		}
	}
	return notes, nil
}
