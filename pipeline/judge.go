package pipeline

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// judge puts readers out that are too late, lets in those that are back, and
// notices those that are no longer what they were. It is called by the second
// pass, between two deletes.
func (w *worker) judge(ctx context.Context) error {
	if w.Readers.count() == 0 {
		return nil
	}
	seen := w.Readers.look()
	owed := w.cursors().Second // below 0 while a gap is owed: then all of it is
	news, out := false, false
	for _, st := range w.standings {
		s := sighted(seen, st.name)
		server := st.server
		reason := st.see(s, owed)
		if reason == "" && st.first != nil {
			first := *st.first
			lacks, err := w.lacksOld(ctx, st)
			if err != nil {
				return err
			}
			if lacks {
				reason = "it lacks what it had before this process saw it, as after a restore"
				st.lost(first, owed)
			}
		}
		news = news || server != st.server
		if reason == "" && w.tooLate(st, s) {
			st.putOut(owed)
			reason = "it lacks changes for longer than max_wait"
		}
		if reason != "" {
			news, out = true, true
			w.tellOut(st, reason)
		}
	}
	if news {
		if err := w.remember(ctx, out); err != nil {
			return err
		}
	}
	for _, st := range w.standings {
		if st.out && w.isBack(st, sighted(seen, st.name)) {
			if err := w.letIn(ctx, st); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *worker) tellOut(st *standing, reason string) {
	if w.Hooks.ReaderOut != nil {
		w.Hooks.ReaderOut(ReaderOutInfo{Partition: w.p.Name(), Reader: st.name, Out: st.out, From: st.from, Reason: reason})
	}
}

// tooLate says that the second pass has waited for a reader long enough: what
// it lacks has been lacking for MaxWait, or for as long as anybody has waited.
// The time begins anew whenever the reader is seen to advance.
func (w *worker) tooLate(st *standing, s sighting) bool {
	if st.out || w.Readers.MaxWait <= 0 {
		return false
	}
	need, lacks := w.heldUpBy(st.name)
	if !lacks {
		st.lacking = false
		return false
	}
	if !st.lacking || s.server != "" && s.shows.HasAll(st.lacks) {
		st.lacking, st.lacks, st.lackedAt = true, need, time.Now()
	}
	return max(time.Since(st.lackedAt), s.lag) >= w.Readers.MaxWait
}

// heldUpBy returns what waits for a reader.
func (w *worker) heldUpBy(name string) (need gtid.Set, ok bool) {
	waits := w.sweeper.waits()
	w.backlog.mu.Lock()
	if len(w.backlog.unshown) > 0 {
		waits = append(waits, w.waitOf(w.backlog.unshown[0]))
	}
	w.backlog.mu.Unlock()
	for _, n := range waits {
		_, _, lacking := w.shown(n)
		for _, l := range lacking {
			if l == name {
				return n.need, true
			}
		}
	}
	return need, false
}

// remember has the marks stored, at once if a reader is out now, and then lets
// the passes go on without it. Where a gap is owed, nothing is stored, and so
// nothing can be forgotten.
func (w *worker) remember(ctx context.Context, out bool) error {
	text, err := marksOf(w.standings)
	if err != nil {
		return err
	}
	b := w.backlog
	b.mu.Lock()
	w.marks = text
	b.mu.Unlock()
	for out {
		w.mu.Lock()
		same, stored := w.storedMarks == text, w.stored
		w.mu.Unlock()
		if same || w.cursors().Second < 0 {
			break
		}
		select {
		case w.storeNow <- struct{}{}:
		default:
		}
		t := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-stored:
		case <-t.C:
		}
		t.Stop()
	}
	w.goWithout()
	return nil
}

// anyServer stands in Watermark.Out for a reader that never said what it is.
const anyServer = "*"

// outList is the readers that are out.
type outList struct {
	names, servers []string
	since          time.Time
}

// goWithout makes known which readers are out. Before second deletes go on
// without another one, applications must have been told, so that no fill reads
// from it which begins later: the poster sees to that.
func (w *worker) goWithout() {
	l := &outList{since: time.Now()}
	for _, st := range w.standings {
		if st.out {
			l.names = append(l.names, st.name)
			l.servers = append(l.servers, cmp.Or(st.server, anyServer))
		}
	}
	now := l.names
	if w.Watermarks != nil {
		was := w.outNow()
		now = slices.DeleteFunc(slices.Clone(now), func(name string) bool { return !slices.Contains(was, name) })
	}
	w.out.Store(&now)
	w.wanted.Store(l)
	if w.Readers != nil {
		w.Readers.setOut(w.p.Name(), l.names)
	}
}

// madeKnown lets the second pass go on without the readers of a list.
func (w *worker) madeKnown(l *outList) {
	if l == nil || w.wanted.Load() != l || len(w.outNow()) == len(l.names) {
		return
	}
	w.out.Store(&l.names)
	w.backlog.mu.Lock()
	defer w.backlog.mu.Unlock()
	w.backlog.wake()
}

// outNow returns the readers that are not waited for.
func (w *worker) outNow() []string {
	if out := w.out.Load(); out != nil {
		return *out
	}
	return nil
}

// isBack says that a reader that is out has caught up with what the source
// showed after it was put out, and is not about to be put out again. What the
// source has lost since, in a failover, no server will show again. A reader that is
// let in too early does no harm: each delete waits for what it is about.
func (w *worker) isBack(st *standing, s sighting) bool {
	if s.server == "" {
		return false
	}
	there, _, ok := w.Readers.sourceAfter(st.since)
	if !ok && w.Readers.Source != nil {
		return false
	}
	if st.goal == nil {
		st.goal = &there
	}
	return s.shows.HasAll(st.goal.Intersect(there)) && (w.Readers.MaxWait <= 0 || s.lag <= w.Readers.MaxWait/2)
}

// letIn waits for a reader again, and moves the second pass back to what is owed
// to it. Timers that began without it are void, also where nothing was deleted
// yet. Marks and cursor are stored in one step.
func (w *worker) letIn(ctx context.Context, st *standing) error {
	from, everything, err := w.owedTo(ctx, st)
	if err != nil {
		return err
	}
	if everything {
		p := newPlanner(w.Schema, w.lanes, nil).everything("reader " + st.name + " is back, and the log no longer holds all that is owed to it")
		if err := w.report(ctx, p); err != nil {
			return err
		}
		w.sweeper.addGap(Second, p.fill, p.patterns)
	}
	b := w.backlog
	b.mu.Lock()
	defer b.mu.Unlock()
	if everything {
		from = b.secondAt
	}
	from = min(from, b.secondAt)
	// What it had may be skipped only where the second pass has been, for all the
	// others: not where it is on its way through what is owed to another one.
	if st.has != nil && st.below <= b.secondAt && (w.again == nil || w.again.end <= from) {
		w.again = &again{end: st.below, has: *st.has}
	} else {
		w.again = nil
	}
	st.out, st.lacking, st.has = false, false, nil
	text, err := marksOf(w.standings)
	if err != nil {
		return err
	}
	b.restart(from)
	w.began, w.marks = math.MaxInt64, text // also of what the first pass has at hand: a sweep too many does no harm
	w.goWithout()
	st.from = from
	w.tellOut(st, "it has caught up")
	return nil
}
