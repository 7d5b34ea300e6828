package pipeline

import (
	"context"
	"time"
)

// firstPass deletes at once what each record names.
func (w *worker) firstPass(ctx context.Context) error {
	pl := newPlanner(w.Schema, w.lanes, w.Hooks.SchemaDiffers)
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
			w.Hooks.Fetched(FetchedInfo{Partition: w.p.Name(), Records: len(f.Messages), Behind: f.End - f.Next, End: f.End})
		}
		p := pl.plan(w.p.Name(), f.Messages)
		if p.progress != nil {
			p.progress.read = seen
			w.vouched.Store(p.progress)
		}
		if err := w.report(ctx, p); err != nil {
			return err
		}
		sent, replied, err := w.delete(ctx, First, p.keys)
		if err != nil {
			return err
		}
		w.told(DeletedInfo{Pass: First, Events: p.events, Keys: p.keys, Committed: p.committed})
		if len(p.patterns) > 0 {
			w.sweeper.add(First, from, waitFor{need: p.need, unnamed: p.unnamed, seen: seen}, p.fill, p.patterns)
		}
		w.handled(p)
		w.backlog.push(&step{start: from, end: f.Next, seen: seen, sent: sent, replied: replied, plan: p})
		if w.Hooks.Handled != nil {
			w.Hooks.Handled(w.p.Name(), f.Next)
		}
		from = f.Next
	}
}

// handled says that the first pass has done what a plan asks for; its sweeps are
// owed by now.
func (w *worker) handled(p *plan) {
	if p.progress == nil {
		return
	}
	w.backlog.mu.Lock()
	defer w.backlog.mu.Unlock()
	w.passed[0] = p.progress
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

// delete deletes keys until Redis has acknowledged all of them. It returns when
// the delete that succeeded was sent, and when it was acknowledged.
func (w *worker) delete(ctx context.Context, pass Pass, keys []string) (sent, replied time.Time, err error) {
	sent = time.Now()
	if len(keys) > 0 {
		err = retry(ctx, &w.Hooks, string(pass)+" delete", func(ctx context.Context) error {
			sent = time.Now()
			return w.Deleter.Delete(ctx, keys)
		})
	}
	return sent, time.Now(), err
}

// told tells of deletes.
func (w *worker) told(d DeletedInfo) {
	d.Partition = w.p.Name()
	if w.Hooks.Deleted != nil && (d.Events > 0 || len(d.Keys) > 0 || len(d.Patterns) > 0) {
		w.Hooks.Deleted(d)
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
func (w *worker) reread(ctx context.Context, pl *planner, s step) error {
	f, err := w.read(ctx, s.start)
	if err != nil {
		return err
	}
	msgs := f.Messages
	s.end = min(f.Next, s.end)
	for len(msgs) > 0 && msgs[len(msgs)-1].Offset >= s.end {
		msgs = msgs[:len(msgs)-1]
	}
	pl.skip = w.again
	s.plan = pl.plan(w.p.Name(), msgs)
	if len(s.plan.patterns) > 0 && s.start < w.began {
		// An earlier owner made the first sweep, or the second was made without a
		// reader that is back: it is still owed.
		w.sweeper.add(Second, s.start, waitFor{need: s.plan.need, unnamed: s.plan.unnamed, seen: s.seen}, s.plan.fill, s.plan.patterns)
	}
	s.plan.letters, s.plan.over = nil, nil // they were reported when they were first read
	w.backlog.mu.Lock()
	defer w.backlog.mu.Unlock()
	w.backlog.fill(&s)
	return nil
}
