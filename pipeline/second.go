package pipeline

import (
	"context"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// waitFor is what a second delete waits for besides fill.
type waitFor struct {
	need    gtid.Set
	unnamed bool      // need is not all: only time helps
	seen    time.Time // when the records were read, or later
	nothing bool      // there is nothing to delete
}

// lostAfter is how long something is waited for before it matters whether the
// source still has it. Where the source's gate is off, it may not have it yet.
func (w *worker) lostAfter() time.Duration {
	if w.Gateless {
		return max(time.Second, w.Fallback)
	}
	return time.Second
}

// shown says since when, at the latest, every reader that is not out has shown
// what is waited for; the first such moment that can be proven. where names the
// readers that lack it.
func (w *worker) shown(n waitFor) (at time.Time, rel Release, lacking []string) {
	if n.nothing {
		return n.seen, ReleaseSource, nil
	}
	if w.Readers.count() == 0 {
		if w.Gateless {
			return n.seen, ReleaseFallback, nil
		}
		return n.seen, ReleaseSource, nil
	}
	rel = ReleaseReaders
	out := w.outNow()
	if len(out) > 0 {
		rel = ReleaseWithout
	}
	at, lacking = w.Readers.shownAt(n.need, out)
	if after := n.seen.Add(w.lostAfter()); len(lacking) > 0 && time.Now().After(after) {
		if rest, asked, ok := w.stillThere(n, after); ok && !rest.HasAll(n.need) {
			if at, lacking = w.Readers.shownAt(rest, out); at.Before(asked) {
				at = asked
			}
			rel = ReleaseLost
		}
	}
	if len(out) == w.Readers.count() || n.unnamed && at.Before(n.seen) {
		at = n.seen
	}
	if n.unnamed {
		rel = ReleaseFallback
	}
	return at, rel, lacking
}

// due says when the delete of a change that is shown may be sent.
func (w *worker) due(shown time.Time, rel Release, fill time.Duration, seen Stalls) time.Time {
	if rel == ReleaseFallback {
		shown = shown.Add(max(0, w.Fallback-fill)) // everybody shows it by then
	}
	if w.counts(fill) {
		return shown.Add(fill)
	}
	return seen.over(shown, fill)
}

// secondPass follows the first and deletes again what is due.
func (w *worker) secondPass(ctx context.Context) error {
	pl := newPlanner(w.Schema, w.lanes, nil)
	if w.Readers != nil {
		defer w.Readers.setOut(w.p.Name(), nil)
		defer w.Readers.want(w, false)
	}
	for {
		news := w.Readers.news()
		if err := w.judge(ctx); err != nil {
			return err
		}
		w.evaluate()
		b, hole, changed, in := w.next()
		switch {
		case b != nil:
			if err := w.deleteAgain(ctx, b); err != nil {
				return err
			}
			continue
		case hole.end > hole.start:
			if err := w.reread(ctx, pl, hole); err != nil {
				return err
			}
			continue
		}
		t := time.NewTimer(in)
		select {
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-changed:
		case <-news:
		case <-t.C:
		}
		t.Stop()
	}
}

// evaluate finds the steps that every reader shows by now.
func (w *worker) evaluate() {
	b := w.backlog
	var told []DeletedInfo
	b.mu.Lock()
	n := 0
	for _, s := range b.unshown {
		at, rel, lacking := w.shown(w.waitOf(s))
		if len(lacking) > 0 {
			break
		}
		s.shown, s.release = at, rel
		told = append(told, w.enlist(s)...)
		n++
	}
	clear(b.unshown[:n])
	b.unshown = b.unshown[n:]
	waits := len(b.unshown) > 0
	if n > 0 {
		b.retire(w.retired)
	}
	b.mu.Unlock()
	if w.Readers != nil {
		w.Readers.want(w, waits)
	}
	for _, d := range told {
		w.told(d)
	}
}

func (w *worker) waitOf(s *step) waitFor {
	return waitFor{need: s.plan.need, unnamed: s.plan.unnamed, seen: s.seen, nothing: len(s.plan.keys) == 0 && len(s.plan.patterns) == 0}
}

// enlist lets the keys of a step wait for their time, lane by lane, but for those
// whose first delete was sent so late that it is the second one too. The caller
// holds the backlog's mutex.
func (w *worker) enlist(s *step) (told []DeletedInfo) {
	b := w.backlog
	var skipped []string
	for i, fill := range w.lanes.fills {
		ks := s.plan.lane(i)
		switch {
		case len(ks) == 0:
		case !s.sent.IsZero() && !s.sent.Before(w.due(s.shown, s.release, fill, b.stalls)):
			skipped = append(skipped, ks...)
			if w.counts(fill) {
				continue
			}
			s.left++
			b.replies = append(b.replies, reply{lane: i, steps: []*step{s}, sent: s.sent, came: s.replied})
			b.wake()
		default:
			s.left++
			s.unsent++
			b.lane(i, s)
		}
	}
	if len(skipped) > 0 || s.unsent == 0 {
		d := DeletedInfo{Pass: Second, Keys: skipped, Release: s.release, Skipped: len(skipped) > 0}
		s.count(&d)
		told = append(told, d)
	}
	return told
}

// count adds the step's events to what is told, once all its keys were deleted.
func (s *step) count(d *DeletedInfo) {
	if s.unsent == 0 && !s.counted {
		s.counted = true
		d.Events += s.plan.events
		d.Committed = append(d.Committed, s.plan.committed...)
	}
}

// counts says that a delete of a lane counts as soon as it is acknowledged: a
// stall does no harm to leases.
func (w *worker) counts(fill time.Duration) bool { return w.stalls == nil || fill == 0 }

// retired is called for each step that the second cursor has passed.
func (w *worker) retired(s *step) {
	w.past.add(s.plan.need)
	p := s.plan.progress
	if p != nil && (w.passed[1] == nil || w.passed[1].offset < p.offset) { // not when it is passed again
		w.passed[1] = p
		w.backlog.wake()
	}
}

// due batches.
const maxAgain = 8192 // keys of one second delete

// next returns deletes that are due, or else records to read again, or else how
// long to wait.
func (w *worker) next() (r *reply, hole step, changed <-chan struct{}, in time.Duration) {
	b := w.backlog
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	in = time.Second // something that cannot be foreseen may need a look
	if len(b.unshown) == 0 {
		in = time.Hour
	}
	for i := range b.lanes {
		steps, wait := w.dueOf(i, now)
		if len(steps) > 0 {
			return &reply{lane: i, steps: steps}, hole, nil, 0
		}
		in = min(in, wait)
	}
	hole, _ = b.hole()
	return nil, hole, b.changed, in
}

// dueOf takes the steps of a lane that are due, up to a number of keys, or says
// how long until one is.
func (w *worker) dueOf(i int, now time.Time) (steps []*step, in time.Duration) {
	b := w.backlog
	keys, in := 0, time.Hour
	for len(b.lanes[i]) > 0 && keys < maxAgain {
		s := b.lanes[i][0]
		if wait := w.due(s.shown, s.release, w.lanes.fills[i], b.stalls).Sub(now); wait > 0 {
			in = wait
			break
		}
		if len(steps) > 0 && s.release != steps[0].release {
			break
		}
		steps, keys = append(steps, s), keys+len(s.plan.lane(i))
		b.lanes[i][0] = nil
		b.lanes[i] = b.lanes[i][1:]
	}
	return steps, in
}

// deleteAgain makes the second delete of a lane of some steps.
func (w *worker) deleteAgain(ctx context.Context, r *reply) (err error) {
	keys := r.steps[0].plan.lane(r.lane)
	for i, s := range r.steps[1:] {
		if i == 0 {
			keys = append([]string(nil), keys...)
		}
		keys = append(keys, s.plan.lane(r.lane)...)
	}
	if r.sent, r.came, err = w.delete(ctx, Second, keys); err != nil {
		return err
	}
	d := DeletedInfo{Pass: Second, Keys: keys, Release: r.steps[0].release}
	b := w.backlog
	b.mu.Lock()
	for _, s := range r.steps {
		s.unsent--
		s.count(&d)
	}
	if w.counts(w.lanes.fills[r.lane]) {
		w.counted(r)
	} else {
		b.replies = append(b.replies, *r)
		b.wake()
	}
	b.mu.Unlock()
	w.told(d)
	return nil
}

// counted says that a delete counts; the caller holds the backlog's mutex.
func (w *worker) counted(r *reply) {
	for _, s := range r.steps {
		s.left--
	}
	w.backlog.retire(w.retired)
}
