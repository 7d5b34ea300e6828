package pipeline

import (
	"context"
	"time"
)

// A second delete counts only if no SET that was sent before it can still run
// after it. A SET that was sent in time runs late where Redis stood still, so a
// delete that was sent less than fill after the end of a stall is repeated (H18).
// Whether there was a stall is known only by a probe that was sent after the
// reply; waiting for that happens here, behind the second pass, for all deletes
// together that wait for it.

// confirm lets the second pass's deletes count, until ctx ends.
func (w *worker) confirm(ctx context.Context) error {
	if w.stalls == nil {
		return nil
	}
	since, err := w.stalls.Calm(ctx, time.Now()) // begins to watch, before there is a delete to judge
	if err != nil {
		return err
	}
	w.confirmed(nil, since)
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
		since, err := w.stalls.Calm(ctx, last)
		if err != nil {
			return err
		}
		w.confirmed(replies, since)
	}
}

// confirmed takes in that the newest stall ended at a time.
func (w *worker) confirmed(replies []reply, since time.Time) {
	again := 0
	b := w.backlog
	b.mu.Lock()
	if b.calm.Before(since) {
		b.calm = since
	}
	for _, r := range replies {
		if r.steps[0].dropped { // all of a reply are dropped together
			continue
		}
		if !w.stalled(r.sent, since, w.lanes.fills[r.lane]) {
			w.counted(&r)
			continue
		}
		again += r.keys
		for _, s := range r.steps {
			s.unsent++
		}
		b.lanes[r.lane] = append(r.steps, b.lanes[r.lane]...)
	}
	b.wake()
	b.mu.Unlock()
	if again > 0 && w.Hooks.Stalled != nil {
		w.Hooks.Stalled(StallInfo{Partition: w.p.Name(), Until: since, Keys: again})
	}
}

// stalled says that a delete may have run before a SET that it was to undo.
func (w *worker) stalled(sent, since time.Time, fill time.Duration) bool {
	return since.After(sent.Add(-fill))
}
