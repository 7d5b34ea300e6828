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

// apply deletes what the plan names, until Redis has acknowledged all of it. It
// returns when the earliest of the deletes that succeeded was sent.
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
	swept := 0
	if len(p.patterns) > 0 {
		start := time.Now()
		err = retry(ctx, &w.Hooks, string(pass)+" sweep", func(ctx context.Context) error {
			start = time.Now()
			n, err := w.Deleter.DeletePatterns(ctx, p.patterns)
			swept += n
			return err
		})
		if err != nil {
			return sent, err
		}
		if len(p.keys) == 0 {
			sent = start
		}
	}
	if w.Hooks.Deleted != nil {
		w.Hooks.Deleted(DeletedInfo{
			Partition: w.p.Name(), Pass: pass, Events: p.events,
			Keys: p.keys, Patterns: p.patterns, Swept: swept, Committed: p.committed,
		})
	}
	return sent, nil
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
		} else if w.Hooks.Deleted != nil {
			w.Hooks.Deleted(DeletedInfo{
				Partition: w.p.Name(), Pass: Second, Events: s.plan.events,
				Keys: s.plan.keys, Patterns: s.plan.patterns, Committed: s.plan.committed, Skipped: true,
			})
		}
		w.mu.Lock()
		w.second = s.end
		w.mu.Unlock()
	}
}

// mendGap invalidates everything twice after a gap. The passes need not wait for
// it: deletes commute.
func (w *worker) mendGap(ctx context.Context) error {
	if w.gap == "" {
		return nil
	}
	all := newPlanner(w.Schema, nil).everything(w.gap)
	if err := w.report(ctx, all); err != nil {
		return err
	}
	if _, err := w.apply(ctx, First, all); err != nil {
		return err
	}
	if err := sleep(ctx, w.Fill); err != nil {
		return err
	}
	if _, err := w.apply(ctx, Second, all); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gapOwed = false
	return nil
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
	return s, nil
}
