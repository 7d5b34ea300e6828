package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
)

// Invalidator reads the log and deletes, in two passes, the keys that its
// events make stale.
type Invalidator struct {
	Schema      *keys.Schema
	Deleter     Deleter
	DeadLetters DeadLetters
	Hooks       Hooks
	// Fill is the longest time from the opening of a reader's snapshot to the
	// execution of its SET in Redis: a second delete is due that long after the
	// event was seen in the log (I6).
	Fill time.Duration
	// Memory bounds the bytes of keys that wait in memory for the second pass,
	// per partition; 0 is 16 MiB. What does not fit is read from the log again.
	Memory int
	// StoreEvery is the least time between two stored cursors; 0 is 500 ms.
	StoreEvery time.Duration
}

// Run consumes until ctx ends, and then returns nil, or until something happens
// that no retry can mend.
func (inv *Invalidator) Run(ctx context.Context, c Consumer) error {
	err := c.Run(ctx, inv.own)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// own runs both passes over one partition for as long as it is owned.
func (inv *Invalidator) own(ctx context.Context, p Partition) error {
	if inv.Hooks.Owned != nil {
		inv.Hooks.Owned(p.Name(), true)
		defer inv.Hooks.Owned(p.Name(), false)
	}
	cursors, gap := p.Cursors()
	for {
		w := newWorker(inv, p, cursors, gap)
		err := w.run(ctx)
		lost, ok := errors.AsType[*LogGapError](err)
		switch {
		case errors.Is(err, ErrFenced), ctx.Err() != nil:
			return nil // the next owner repeats what was not stored
		case !ok:
			return fmt.Errorf("partition %s: %w", p.Name(), err)
		}
		// Records are gone that a pass has not handled. Both passes go on where
		// the log begins, after everything was invalidated in both.
		gap = lost.Error()
		cursors = resumeAt(w.cursors(), lost)
	}
}

// resumeAt moves the cursors to where the log can be read.
func resumeAt(c Cursors, lost *LogGapError) Cursors {
	if lost.From > lost.Start && c.First >= lost.From { // the log's tail is gone
		return Cursors{First: lost.Start, Second: lost.Start}
	}
	return Cursors{First: max(c.First, lost.Start), Second: max(c.Second, lost.Start)}
}

// worker is one partition's two passes, between gaps.
type worker struct {
	*Invalidator
	p       Partition
	gap     string // everything must be invalidated first
	backlog *backlog

	mu     sync.Mutex
	second int64 // the second pass's cursor
	// gapOwed holds cursors back until the gap's second invalidation: until then
	// the stored ones must go on showing the gap.
	gapOwed bool
	gapDone time.Time     // when the gap's first invalidation was acknowledged
	gapped  chan struct{} // closed when gapDone is set
}

func newWorker(inv *Invalidator, p Partition, c Cursors, gap string) *worker {
	limit := inv.Memory
	if limit == 0 {
		limit = 16 << 20
	}
	w := &worker{
		Invalidator: inv, p: p, gap: gap, second: c.Second, gapOwed: gap != "",
		backlog: newBacklog(c, limit), gapped: make(chan struct{}),
	}
	return w
}

// run ends with the first error of its three goroutines.
func (w *worker) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, fn := range []func(context.Context) error{w.firstPass, w.secondPass, w.store} {
		wg.Go(func() { cancel(fn(ctx)) })
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (w *worker) cursors() Cursors {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Cursors{First: w.backlog.first(), Second: w.second}
}

// read reads from the log; it retries everything but a gap.
func (w *worker) read(ctx context.Context, from int64) (f Fetch, err error) {
	var lost *LogGapError
	err = retry(ctx, &w.Hooks, "read log", func(ctx context.Context) (err error) {
		f, err = w.p.Read(ctx, from)
		if errors.As(err, &lost) {
			return nil
		}
		return err
	})
	if lost != nil {
		return f, lost
	}
	return f, err
}

// firstPass deletes at once what each record names.
func (w *worker) firstPass(ctx context.Context) error {
	pl := newPlanner(w.Schema, w.Hooks.SchemaDiffers)
	if w.gap != "" {
		if _, err := w.apply(ctx, First, pl.everything(w.gap)); err != nil {
			return err
		}
		w.gapDone = time.Now()
		close(w.gapped)
	}
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
	p.letters = nil // they hold the records' bytes
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
	if err := w.repeatGap(ctx, pl); err != nil {
		return err
	}
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

// repeatGap is the second invalidation of everything after a gap.
func (w *worker) repeatGap(ctx context.Context, pl *planner) error {
	if w.gap == "" {
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.gapped:
	}
	if err := sleep(ctx, time.Until(w.gapDone.Add(w.Fill))); err != nil {
		return err
	}
	if _, err := w.apply(ctx, Second, pl.everything(w.gap)); err != nil {
		return err
	}
	w.mu.Lock()
	w.gapOwed = false
	w.mu.Unlock()
	return nil
}

// reread makes the plan of a step from the log, up to the step's end at most.
func (w *worker) reread(ctx context.Context, pl *planner, s step) (step, error) {
	f, err := w.read(ctx, s.start)
	if err != nil {
		return s, err
	}
	msgs, end := f.Messages, f.Next
	if end > s.end {
		end = s.end
		n := 0
		for n < len(msgs) && msgs[n].Offset < end {
			n++
		}
		msgs = msgs[:n]
	}
	w.backlog.reached(end)
	s.end, s.plan = end, pl.plan(w.p.Name(), msgs)
	return s, nil
}

// store keeps the stored cursors behind the passes, until ctx ends; then once
// more, for the next owner.
func (w *worker) store(ctx context.Context) error {
	every := w.StoreEvery
	if every == 0 {
		every = 500 * time.Millisecond
	}
	stored, _ := w.p.Cursors()
	for {
		stop := sleep(ctx, every)
		if err := w.storeOnce(ctx, &stored, stop != nil); err != nil {
			return err
		}
		if stop != nil {
			return stop
		}
	}
}

func (w *worker) storeOnce(ctx context.Context, stored *Cursors, last bool) error {
	if last {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), lastSave)
		defer cancel()
	}
	w.mu.Lock()
	owed := w.gapOwed
	w.mu.Unlock()
	c := w.cursors()
	if c == *stored || owed {
		return nil
	}
	err := w.p.Store(ctx, c)
	switch {
	case err == nil:
		*stored = c
		if w.Hooks.Stored != nil {
			w.Hooks.Stored(w.p.Name(), c)
		}
	case errors.Is(err, ErrFenced):
		return ErrFenced
	case w.Hooks.Retry != nil:
		w.Hooks.Retry("store cursors", 1, err, 0)
	}
	return nil
}
