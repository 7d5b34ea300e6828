package pipeline

import (
	"context"
	"time"
)

// A second delete counts only if no SET that was sent before it can still run
// after it. A SET that was sent in time runs late where Redis stood still before
// its time was over, so a delete that was sent less than fill after the end of such
// a stall is repeated (H18). Whether there was a stall is known only by a probe
// that was sent after the reply; waiting for that happens here, behind the second
// pass, for all deletes together that wait for it.

// confirm lets the second pass's deletes count, until ctx ends.
func (w *worker) confirm(ctx context.Context) error {
	if w.stalls == nil {
		return nil
	}
	seen, err := w.stalls.Calm(ctx, time.Now()) // begins to watch, before there is a delete to judge
	if err != nil {
		return err
	}
	w.confirmed(nil, seen)
	b := w.backlog
	for {
		b.mu.Lock()
		replies, changed := b.replies, b.changed
		b.replies = nil
		b.mu.Unlock()
		if len(replies) == 0 {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-changed:
			}
			continue
		}
		last := replies[0].came
		for _, r := range replies {
			if r.came.After(last) {
				last = r.came
			}
		}
		seen, err := w.stalls.Calm(ctx, last)
		if err != nil {
			return err
		}
		w.confirmed(replies, seen)
	}
}

// confirmed takes in the stalls that were seen, and lets replies count or has their
// deletes made again.
func (w *worker) confirmed(replies []reply, seen Stalls) {
	again := 0
	b := w.backlog
	b.mu.Lock()
	b.stalls = seen
	for _, r := range replies {
		again += w.settle(r)
	}
	b.retire(w.retired)
	b.wake()
	b.mu.Unlock()
	if again > 0 && w.Hooks.Stalled != nil {
		w.Hooks.Stalled(StallInfo{Partition: w.p.Name(), Until: seen.newest(), Keys: again})
	}
}

// settle judges a reply by the stalls that are known, and returns how many keys are
// to be deleted again; the caller holds the backlog's mutex.
func (w *worker) settle(r reply) (again int) {
	b := w.backlog
	var late []*step
	for _, s := range r.steps {
		switch {
		case s.dropped:
		case r.sent.Before(w.due(s.shown, s.release, w.lanes.fills[r.lane], b.stalls)):
			s.unsent++
			late, again = append(late, s), again+len(s.plan.lane(r.lane))
		default:
			s.left--
		}
	}
	b.lanes[r.lane] = append(late, b.lanes[r.lane]...)
	return again
}
