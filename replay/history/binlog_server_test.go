package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestBinlogServer(t *testing.T) {
	onServers(t, binlog.DriverReplication, func(t *testing.T, l *binlogLab) {
		l.sub(t, "time", testByTime)
		l.sub(t, "gtids", testByGTIDs)
		l.sub(t, "xa", testXA)
		l.sub(t, "resume", testResume)
		l.sub(t, "purged", testPurged)
		l.sub(t, "files", testFiles)
	})
}

func (l *binlogLab) exec(statements ...string) {
	l.Helper()
	envtest.Exec(l, l.db, statements...)
}

func testByGTIDs(l *binlogLab) {
	l.insert(1, 2)
	from := l.executed()
	want := l.insert(3, 4)
	l.exec("INSERT INTO other VALUES (1)", "UPDATE item SET sku = 't' WHERE id = 3", "DELETE FROM item WHERE id = 4", "TRUNCATE item")
	want = append(want, "3>3", "-4", "!shop.item")
	want = append(want, l.insert(5)...)
	to := l.executed()
	l.insert(6)

	p := l.plan(l.deps, BinlogSpec{After: from, Set: to})
	l.insert(7)
	chunks := p.read()
	l.expect(chunks, want...)
	if len(p.Warnings) > 0 || len(p.What) == 0 || p.Rows >= 0 {
		l.Errorf("plan: %+v", p.Plan)
	}
	for _, c := range chunks {
		for _, e := range c.Events {
			if !parsed(to).Has(e.GTID) || parsed(from).Has(e.GTID) || e.Source != "shop" || e.Schema != l.schema.Hash() || e.CommittedAt.IsZero() || e.Version != pipeline.Version {
				l.Errorf("event %+v", e)
			}
		}
	}
	// The server is idle behind the end: it must be known without another
	// transaction. What was committed after the plan is no part of it.
	l.expect(l.plan(l.deps, BinlogSpec{After: to}).read(), "+6", "+7")
	l.expect(l.plan(l.deps, BinlogSpec{After: l.executed()}).read())
	l.testSetsOfOne(from)
	if l.cfg.Driver == binlog.DriverCanal { // cannot begin before the first transaction
		return
	}
	if all := said(l.plan(l.deps, BinlogSpec{}).read()...); !slices.Contains(all, "+1") || !slices.Contains(all, "+7") {
		l.Errorf("everything: %s", all)
	}

	if last := chunks[len(chunks)-1]; last.Done != 1 {
		l.Errorf("the last chunk says %v of all is done", last.Done)
	}
	l.expect(p.from(p.reopen(), chunks[len(chunks)-1].Next))
}

// testSetsOfOne: single transactions of MySQL, and such as never were.
func (l *binlogLab) testSetsOfOne(executed string) {
	l.Helper()
	if l.maria {
		return
	}
	uuid, upTo, _ := strings.Cut(executed, ":1-")
	two, err := strconv.Atoi(upTo) // the INSERT of 2
	if err != nil {
		l.Fatal(err)
	}
	p := l.plan(l.deps, BinlogSpec{Set: fmt.Sprintf("%s:%d:%d:100000-100100", uuid, two-1, two+1)})
	l.expect(p.read(), "+1", "+3")
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "101 of the transactions") {
		l.Errorf("warnings: %q", p.Warnings)
	}
	s, err := OpenBinlog(l.deps(), BinlogSpec{Set: uuid + ":500000"})
	if err != nil {
		l.Fatal(err)
	}
	if _, err := s.Plan(l.Context()); err == nil || !strings.Contains(err.Error(), "none of the GTIDs") {
		l.Errorf("a GTID that was never executed: %v", err)
	}
}

// TestBinlogCanal: a server that does not name columns in its binlog.
func TestBinlogCanal(t *testing.T) {
	onServers(t, binlog.DriverCanal, func(t *testing.T, l *binlogLab) {
		l.sub(t, "gtids", testByGTIDs)
		l.sub(t, "files", testFilesWithoutNames)
		l.sub(t, "xa", testXA)
	})
}

func testByTime(l *binlogLab) {
	second := func() time.Time { // servers write whole seconds
		l.Helper()
		var now int64
		if err := l.db.QueryRowContext(l.Context(), "SELECT SLEEP(1.1) + UNIX_TIMESTAMP()").Scan(&now); err != nil {
			l.Fatal(err)
		}
		return time.Unix(now, 0)
	}
	l.insert(1, 2)
	l.other("XA START 'p'", "INSERT INTO item VALUES (10, '', 's')", "XA END 'p'", "XA PREPARE 'p'")
	since := second().Add(time.Second) // a second is half over
	second()
	want := append([]string{"+10"}, l.insert(3, 4)...) // prepared before, committed within
	l.other("XA COMMIT 'p'", "FLUSH BINARY LOGS")
	until := second().Add(time.Second)
	second()
	l.insert(5)
	l.expect(l.plan(l.deps, BinlogSpec{Since: since}).read(), append(slices.Clone(want), "+5")...)
	p := l.plan(l.deps, BinlogSpec{Since: since, Until: until})
	l.expect(p.read(), want...)
	l.expect(l.plan(l.deps, BinlogSpec{Until: since}).read(), "+1", "+2", "+10")
	if (len(p.Warnings) > 0) != l.maria {
		l.Errorf("warnings: %q", p.Warnings)
	}
}

func testPurged(l *binlogLab) {
	empty := l.executed()
	l.insert(1, 2)
	l.exec("FLUSH BINARY LOGS")
	gone := l.executed()
	want := l.insert(3)
	l.purge()
	// A part that is gone is refused: what is left would look like all of it.
	for _, c := range []struct {
		spec  BinlogSpec
		wants []string
	}{
		{BinlogSpec{After: empty}, []string{"2 of the transactions were purged", "archive", "replay what is there"}},
		{BinlogSpec{Since: time.Now().Add(-time.Hour)}, []string{"the binlogs begin at", "archive"}},
	} {
		s, err := OpenBinlog(l.deps(), c.spec)
		if err != nil {
			l.Fatal(err)
		}
		_, err = s.Plan(l.Context())
		if _, ok := errors.AsType[*pipeline.GapError](err); !ok {
			l.Errorf("a part that is gone: %v", err)
			continue
		}
		for _, w := range c.wants {
			if !strings.Contains(err.Error(), w) {
				l.Errorf("%q does not say %q", err, w)
			}
		}
	}
	p := l.plan(l.deps, BinlogSpec{After: gone})
	l.expect(p.read(), want...)
	s, err := OpenBinlog(l.deps(), BinlogSpec{Set: gone})
	if err != nil {
		l.Fatal(err)
	}
	if _, err = s.Plan(l.Context()); err == nil || !strings.Contains(err.Error(), "purged") || !strings.Contains(err.Error(), "replay of the tables") {
		l.Errorf("a range that is gone: %v", err)
	}
	// Purged between the plan and the reading.
	p = l.plan(l.deps, BinlogSpec{After: gone})
	l.insert(4)
	l.exec("FLUSH BINARY LOGS")
	l.purge()
	err = p.source.Read(l.Context(), "", func(context.Context, replay.Chunk) error { return nil })
	if _, ok := errors.AsType[*pipeline.GapError](err); !ok || !strings.Contains(err.Error(), "archive") {
		l.Errorf("purged behind the plan: %v", err)
	}
}

// purge leaves the newest binlog file only. A file that a replica which has hung
// up seems to read stays, without a word.
func (l *binlogLab) purge() {
	l.Helper()
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); {
		rows, err := l.db.QueryContext(l.Context(), "SHOW BINARY LOGS")
		if err != nil {
			l.Fatal(err)
		}
		cols, _ := rows.Columns()
		var n int
		var file string
		for rows.Next() {
			n++
			into := []any{&file}
			for range cols[1:] {
				into = append(into, new(sql.RawBytes))
			}
			if err := rows.Scan(into...); err != nil {
				l.Fatal(err)
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			l.Fatal(err)
		}
		if n == 1 {
			return
		}
		l.exec("PURGE BINARY LOGS TO '" + file + "'")
	}
	l.Fatal("old binlog files stay")
}

// testResume: from the cursor behind each chunk comes the rest, and nothing
// else, also where the cursor is inside a transaction.
func testResume(l *binlogLab) {
	from := l.executed()
	l.exec("CREATE TABLE d (i INT)", "INSERT INTO d VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
		"INSERT INTO item SELECT a.i + 10*b.i + 100*c.i + 1000*e.i, REPEAT('p', 100), 's' FROM d a, d b, d c, d e",
		"BEGIN", "UPDATE item SET sku = 't' WHERE id < 3000", "DELETE FROM item WHERE id < 3000", "COMMIT")
	l.exec("XA START 'x'", "UPDATE item SET sku = 'u' WHERE id < 6000", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'")
	l.insert(1, 2, 3)
	p := l.plan(l.deps, BinlogSpec{After: from})
	chunks := p.read()
	all := said(chunks...)
	if len(all) != 10_000+6_000+3_000+3 || len(chunks) < 8 || chunks[len(chunks)-1].Done != 1 {
		l.Fatalf("%d changes in %d chunks", len(all), len(chunks))
	}
	before, rows := 0, int64(0)
	for i, c := range chunks {
		before += len(said(c))
		rows += c.Rows
		if n := len(said(c)); n > 2*chunkRows {
			l.Errorf("chunk %d has %d changes", i, n)
		}
		if got := said(p.from(p.reopen(), c.Next)...); !slices.Equal(got, all[before:]) {
			l.Errorf("behind chunk %d come %d changes, want %d", i, len(got), len(all)-before)
		}
	}
	if rows != int64(len(all)) {
		l.Errorf("the chunks say %d rows, %d came", rows, len(all))
	}
	l.sameNumbers(p, chunks)
}

// sameNumbers: an event has the same number when it is read again.
func (l *binlogLab) sameNumbers(p planned, chunks []replay.Chunk) {
	l.Helper()
	seqs := func(chunks []replay.Chunk) (out []string) {
		for _, c := range chunks {
			for _, e := range c.Events {
				out = append(out, fmt.Sprint(e.GTID, " ", e.Seq))
			}
		}
		return out
	}
	all := seqs(chunks)
	if again := seqs(p.from(p.reopen(), chunks[1].Next)); !slices.Equal(again, all[len(seqs(chunks[:2])):]) {
		l.Errorf("numbers differ: %v, before %v", again, all)
	}
}

func testXA(l *binlogLab) {
	from := l.executed()
	l.exec("XA START 'a'", "INSERT INTO item VALUES (1, '', 's')", "XA END 'a'", "XA PREPARE 'a'")
	middle := l.executed()
	l.exec("XA COMMIT 'a'")
	to := l.executed()
	l.exec("XA START 'b'", "INSERT INTO item VALUES (2, '', 's')", "XA END 'b'", "XA PREPARE 'b'", "XA ROLLBACK 'b'")

	chunks := l.plan(l.deps, BinlogSpec{After: from, Set: to}).read()
	l.expect(chunks, "+1")
	if e := chunks[0].Events[0]; !parsed(e.GTID).HasAll(parsed(to)) {
		l.Errorf("the rows of an XA transaction bear %q, which does not hold its COMMIT", e.GTID)
	}
	l.expect(l.plan(l.deps, BinlogSpec{After: from, Set: middle}).read(), "+1") // the COMMIT is behind
	l.expect(l.plan(l.deps, BinlogSpec{After: middle, Set: to}).read(), "!*.*") // the PREPARE is before
	l.expect(l.plan(l.deps, BinlogSpec{After: to}).read(), "+2")                // rolled back: too much, not too little
	l.expect(l.plan(l.deps, BinlogSpec{After: from}).read(), "+1", "+2")        // all
	if n := size(parsed(to).Minus(parsed(from))); n != 2 {
		l.Errorf("%d transactions, want 2", n)
	}
}
