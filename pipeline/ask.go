package pipeline

import (
	"slices"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// What follows is the partitions' side of Readers.

// all returns the servers that second deletes wait for.
func (r *Readers) all() []Reader {
	if r == nil {
		return nil
	}
	return r.Servers
}

// count returns the number of servers that second deletes wait for.
func (r *Readers) count() int {
	if r == nil {
		return 0
	}
	return len(r.Servers)
}

// shownAt returns since when, at the latest, every server but those of out has
// shown need: the zero time where there is no other. lacking names those that do
// not show it yet.
func (r *Readers) shownAt(need gtid.Set, out []string) (at time.Time, lacking []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.init()
	for _, w := range r.servers {
		name := w.reader.Name()
		if slices.Contains(out, name) {
			continue
		}
		t, ok := w.ring.shown(need)
		switch {
		case !ok:
			lacking = append(lacking, name)
		case t.After(at):
			at = t
		}
	}
	return at, lacking
}

// sourceMoved returns when the source's address last led to another server; the
// zero time if it never did.
func (r *Readers) sourceMoved() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.init()
	if r.source == nil {
		return time.Time{}
	}
	return r.source.moved
}

// stillThere returns what is not lost of what is waited for, and since when that
// is known. A transaction was published only after the source had shown it: one
// that the source lacks now, by an answer to a question sent after a time, no
// server will show again.
//
// The address may lead to another server than the tailer's, and that may lag: since
// a moment ago, or since before this process began. The tailer knows: what its
// progress still has is not lost. In the log of replays there is no progress; there
// the address is believed until it is seen to lead elsewhere.
func (w *worker) stillThere(n waitFor, after time.Time) (rest gtid.Set, asked time.Time, ok bool) {
	there, asked, ok := w.Readers.sourceAfter(after)
	if ok && (!w.Replays || !w.Readers.sourceMoved().Before(n.seen)) {
		p := w.vouched.Load()
		if p == nil || !p.read.After(n.seen.Add(vouchAfter)) {
			return rest, asked, false
		}
		set, err := gtid.Parse(p.gtids)
		if err != nil {
			return rest, asked, false
		}
		there.Union(set)
	}
	return n.need.Intersect(there), asked, ok
}

// vouchAfter is how long behind an event the progress is read that has it, if the
// tailer still does: many times the delay with which it stores its position.
const vouchAfter = 10 * time.Second

// sourceAfter returns all that any read of the source can have seen, by an answer
// to a question that was sent after a time.
func (r *Readers) sourceAfter(after time.Time) (set gtid.Set, at time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.init()
	if r.source == nil {
		return set, at, false
	}
	o := r.source.ring.newest()
	return o.written, o.at, o.asked.After(after)
}

// within returns when the question was sent to which the newest answer of the
// source came whose transactions, seen by reads or only written, are all in a set.
func (r *Readers) within(set gtid.Set) (asked time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.init()
	if r.source == nil {
		return asked, false
	}
	for _, o := range slices.Backward(r.source.ring) {
		if set.HasAll(o.written) {
			return o.asked, true
		}
	}
	return asked, false
}

// sighting is a server as a partition judges it.
type sighting struct {
	name   string
	server string // "" before its first answer
	epoch  int
	shows  gtid.Set
	found  gtid.Set // what it showed when it was first seen as what it is
	lag    time.Duration
}

func (r *Readers) look() []sighting {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.init()
	var all []sighting
	for _, w := range r.servers {
		all = append(all, sighting{
			name: w.reader.Name(), server: w.server, epoch: w.epoch,
			shows: w.ring.newest().set, found: w.found, lag: r.lag(w, now),
		})
	}
	return all
}

// want says that somebody waits for answers, or no longer does.
func (r *Readers) want(who any, waits bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.init()
	switch {
	case !waits:
		delete(r.waiting, who)
	case !r.waiting[who]:
		r.waiting[who] = true
		close(r.wake)
		r.wake = make(chan struct{})
	}
}

// news returns a channel that is closed at the next answer which brings any.
func (r *Readers) news() <-chan struct{} {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.init()
	return r.changed
}

// setOut shows which servers a partition's second pass goes on without.
func (r *Readers) setOut(partition string, names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.init()
	if len(names) == 0 {
		delete(r.out, partition)
		return
	}
	r.out[partition] = names
}
