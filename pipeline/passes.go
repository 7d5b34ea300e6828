package pipeline

import (
	"context"
	"time"
)

// firstPass deletes at once what each record names.
func (w *worker) firstPass(ctx context.Context) error {
	pl := newPlanner(w.Schema, w.Hooks.SchemaDiffers)
	from := w.backlog.first()
	for {
		f, err := w.read(ctx, from)
		if err != nil {
			return err
		}
		// From here on the clock of the second delete runs: the change was
		// visible before its event was published.
		seen := time.Now()
		if w.Hooks.Fetched != nil {
			w.Hooks.Fetched(FetchedInfo{Partition: w.p.Name(), Records: len(f.Messages), Behind: f.End - f.Next})
		}
		p := pl.plan(w.p.Name(), f.Messages)
		if err := w.report(ctx, p); err != nil {
			return err
		}
		sent, err := w.apply(ctx, First, p)
		if err != nil {
			return err
		}
		if len(p.patterns) > 0 {
			w.sweeper.add(First, from, seen, p.patterns)
		}
		w.backlog.push(step{
			start: from, end: f.Next, seen: seen, plan: p,
			late: sent.Sub(seen) >= w.Fill,
		})
		from = f.Next
	}
}

// report makes known, once, what will be over-invalidated and why (I8).
func (w *worker) report(ctx context.Context, p *plan) error {
	for _, l := range p.letters {
		err := retry(ctx, &w.Hooks, "store dead letter", func(ctx context.Context) error {
			return w.DeadLetters.Add(ctx, l)
		})
		if err != nil {
			return err
		}
		if w.Hooks.DeadLettered != nil {
			w.Hooks.DeadLettered(l)
		}
	}
	if w.Hooks.OverInvalidated != nil {
		for _, o := range p.over {
			w.Hooks.OverInvalidated(o)
		}
	}
	if w.Hooks.WhenErrors != nil && p.whenErrors > 0 {
		w.Hooks.WhenErrors(p.whenErrors)
	}
	p.letters, p.over = nil, nil // the letters hold the records' bytes
	return nil
}

// apply deletes the keys that the plan names, until Redis has acknowledged all
// of them, and returns when the deletes that succeeded were sent. The plan's
// patterns are the sweeper's.
func (w *worker) apply(ctx context.Context, pass Pass, p *plan) (sent time.Time, err error) {
	sent = time.Now()
	if len(p.keys) > 0 {
		err = retry(ctx, &w.Hooks, string(pass)+" delete", func(ctx context.Context) error {
			sent = time.Now()
			return w.Deleter.Delete(ctx, p.keys)
		})
		if err != nil {
			return sent, err
		}
	}
	w.deleted(pass, p, false)
	return sent, nil
}

func (w *worker) deleted(pass Pass, p *plan, skipped bool) {
	if w.Hooks.Deleted != nil {
		w.Hooks.Deleted(DeletedInfo{
			Partition: w.p.Name(), Pass: pass, Events: p.events,
			Keys: p.keys, Committed: p.committed, Skipped: skipped,
		})
	}
}

// secondPass follows the first and deletes again what is due.
func (w *worker) secondPass(ctx context.Context) error {
	pl := newPlanner(w.Schema, nil)
	for {
		s, err := w.backlog.next(ctx)
		if err != nil {
			return err
		}
		if s.plan == nil { // it did not fit: read it again
			if s, err = w.reread(ctx, pl, s); err != nil {
				return err
			}
		}
		if !s.late {
			if err := sleep(ctx, time.Until(s.seen.Add(w.Fill))); err != nil {
				return err
			}
			if _, err := w.apply(ctx, Second, s.plan); err != nil {
				return err
			}
		} else {
			w.deleted(Second, s.plan, true)
		}
		w.mu.Lock()
		w.second = s.end
		w.mu.Unlock()
	}
}

// reportGap makes a gap known; the sweeper mends it.
func (w *worker) reportGap(ctx context.Context) error {
	if w.everything == nil {
		return nil
	}
	return w.report(ctx, w.everything)
}

// reread makes the plan of a step from the log, up to the step's end at most.
func (w *worker) reread(ctx context.Context, pl *planner, s step) (step, error) {
	f, err := w.read(ctx, s.start)
	if err != nil {
		return s, err
	}
	msgs, end := f.Messages, min(f.Next, s.end)
	for len(msgs) > 0 && msgs[len(msgs)-1].Offset >= end {
		msgs = msgs[:len(msgs)-1]
	}
	w.backlog.reached(end)
	s.end, s.plan = end, pl.plan(w.p.Name(), msgs)
	if len(s.plan.patterns) > 0 && s.start < w.began {
		// An earlier owner made the first sweep; the second is still owed.
		w.sweeper.add(Second, s.start, s.seen, s.plan.patterns)
	}
	return s, nil
}
