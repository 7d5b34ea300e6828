package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
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
	// execution of its SET in Redis, for rules that do not say it themselves: a
	// second delete is due that long after every reader shows the change (I6). For
	// rules with leases it is 0.
	Fill time.Duration
	// Readers watches the servers that fills read from. nil, or one without
	// servers: fills read the source only, and what is in the log is visible there.
	Readers *Readers
	// Fallback is the delay of a second delete where no server can be asked about
	// the event; Fill where that is longer.
	Fallback time.Duration
	// Gateless says that the source's own gate is off. Without Readers to ask,
	// every second delete then waits for Fallback.
	Gateless bool
	// Replays says that the log holds what is replayed: events in any order, and no
	// progress records.
	Replays bool
	// HoldOthers is for how long replayed records that are for another key schema are
	// held back before everything of their tables is invalidated instead, and they
	// become dead letters; 0 is a minute.
	HoldOthers time.Duration
	// Watermarks, if not nil, is told how far the passes are. Readers.Source must be
	// set then: a cache is trusted only while all that the source showed up to
	// MaxLag ago has been deleted.
	Watermarks Watermarks
	MaxLag     time.Duration
	// Memory bounds the bytes of keys that wait in memory for the second pass, of
	// all partitions together; 0 is 32 MiB. What does not fit is read from the log
	// again.
	Memory int
	// StoreEvery is the least time between two stored cursors; 0 is 500 ms.
	StoreEvery time.Duration

	memory memory // of all partitions; its limit is set by Run
	others others
}

// Run consumes until ctx ends, and then returns nil, or until something happens
// that no retry can mend. It is called once.
func (inv *Invalidator) Run(ctx context.Context, c Consumer) error {
	inv.memory.limit = int64(cmp.Or(inv.Memory, 32<<20))
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
	for attempt := 1; ; attempt++ {
		w, err := newWorker(inv, p, cursors, gap)
		if err == nil {
			err = w.run(ctx)
			w.backlog.drop()
		}
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
		cursors = resumeAt(w.passesAt(), lost)
		if err := sleep(ctx, backoff(attempt)); err != nil {
			return nil
		}
	}
}

// resumeAt moves the cursors to where the log can be read.
func resumeAt(c Cursors, lost *LogGapError) Cursors {
	if lost.From > lost.Start { // the log's tail is gone
		return Cursors{First: lost.Start, Second: lost.Start, Marks: c.Marks}
	}
	return Cursors{First: max(c.First, lost.Start), Second: max(c.Second, lost.Start), Marks: c.Marks}
}

// worker is one partition's two passes, between gaps.
type worker struct {
	*Invalidator
	p   Partition
	gap string // why everything must be invalidated; "" if it need not be
	// everything is the plan for the gap; nil without one.
	everything *plan
	backlog    *backlog
	lanes      *lanes
	stalls     StallWatcher // nil: every delete counts
	taken      int64        // what is below it, other processes' first passes have handled
	keysBy     []byte       // how a record says that it is for our schema

	sweeper *sweeper

	// Of the second pass:
	began     int64       // sweeps of records below it are made again when they are read again
	standings []*standing // of the readers
	again     *again
	out       atomic.Pointer[[]string] // the readers that are not waited for
	wanted    atomic.Pointer[outList]  // those that are out, to be made known first

	vouched atomic.Pointer[progressRecord] // the newest that the first pass has read

	// Guarded by the backlog's mutex:
	marks  string             // to be stored with the cursors
	passed [2]*progressRecord // the newest that the passes have passed
	past   past               // of a log of replays

	storeNow    chan struct{}
	mu          sync.Mutex
	stored      chan struct{} // closed and replaced when cursors were stored
	storedMarks string
}

// gapOwed is a cursor that cannot be stored.
const gapOwed = -1

func newWorker(inv *Invalidator, p Partition, c Cursors, gap string) (*worker, error) {
	c.Second = min(c.Second, c.First)
	left, from := leftBehind(inv.Readers.all(), c.Marks)
	if len(left) > 0 && from >= 0 {
		c.Second = min(c.Second, from)
	}
	l := lanesOf(inv.Schema, inv.Fill)
	w := &worker{
		Invalidator: inv, p: p, gap: gap, lanes: l, backlog: newBacklog(c, &inv.memory, len(l.fills)),
		sweeper: newSweeper(), began: c.First, taken: c.First, keysBy: keysByField(inv.Schema.Hash()),
		storeNow: make(chan struct{}, 1), stored: make(chan struct{}), storedMarks: withoutPast(c.Marks),
	}
	w.past = pastOf(inv.Replays, c)
	w.stalls, _ = inv.Deleter.(StallWatcher)
	if inv.Readers.count() > 0 {
		w.standings = standings(inv.Readers.Servers, c.Marks, c.Second, c.Second > 0 && gap == "")
	}
	if gap != "" {
		// Until this was swept twice no cursor is stored: the stored ones must go
		// on showing the gap. To a reader that is out it is owed as well.
		for _, st := range w.standings {
			st.from, st.oldEnd = owesAll, 0
		}
		w.everything = newPlanner(inv.Schema, l, nil).everything(gap)
		w.sweeper.addGap(First, w.everything.fill, w.everything.patterns)
	}
	w.repay(left, from)
	w.goWithout()
	for _, st := range w.standings {
		if st.out {
			w.tellOut(st, "it was when the partition came here, or it is new")
		}
	}
	var err error
	w.marks, err = marksOf(w.standings)
	return w, err
}

// run ends with the first error of its goroutines.
func (w *worker) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, fn := range []func(context.Context) error{w.firstPass, w.secondPass, w.confirm, w.reportGap, w.sweep, w.post, w.store} {
		wg.Go(func() {
			if err := fn(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// passesAt returns where the passes are.
func (w *worker) passesAt() Cursors {
	b := w.backlog
	b.mu.Lock()
	defer b.mu.Unlock()
	return Cursors{First: b.firstAt, Second: b.secondAt, Marks: w.marks}
}

// cursors returns what may be stored; below 0 while a gap is owed its sweeps.
func (w *worker) cursors() Cursors {
	// The passes' cursors are read before what the sweeper owes: a sweep that is
	// asked for in between belongs to records that these cursors do not cover.
	c := w.passesAt()
	owed := w.sweeper.lowest()
	c.First, c.Second = min(c.First, owed.First), min(c.Second, owed.Second)
	return c
}

// read reads from the log; it retries everything but a gap. What is for another key
// schema may be held back.
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
	if err != nil {
		return f, err
	}
	return w.ours(ctx, from, f)
}

// store keeps the stored cursors behind the passes, until ctx ends; then once
// more, for the next owner.
func (w *worker) store(ctx context.Context) error {
	stored, _ := w.p.Cursors()
	if w.gap != "" {
		stored = Cursors{First: -1, Second: -1} // not what is stored
	}
	for {
		stop := w.untilStore(ctx)
		if err := w.storeOnce(ctx, &stored); err != nil {
			return err
		}
		if stop != nil {
			return stop
		}
	}
}

// untilStore waits until cursors are to be stored.
func (w *worker) untilStore(ctx context.Context) error {
	t := time.NewTimer(w.storeEvery())
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
	case <-w.storeNow:
	}
	return nil
}

func (w *worker) storeOnce(ctx context.Context, stored *Cursors) error {
	c := w.cursors()
	marks := c.Marks // those that remember waits for
	c.Marks = w.withPast(marks)
	if c == *stored || c.First < 0 || c.Second < 0 {
		return nil
	}
	ctx, cancel := outlive(ctx)
	defer cancel()
	err := w.p.Store(ctx, c)
	switch {
	case err == nil:
		*stored = c
		w.mu.Lock()
		w.storedMarks = marks
		close(w.stored)
		w.stored = make(chan struct{})
		w.mu.Unlock()
		if w.Hooks.Stored != nil {
			w.Hooks.Stored(w.p.Name(), c)
		}
	case errors.Is(err, ErrFenced):
		return ErrFenced
	case errors.Is(err, ErrFatal):
		return fmt.Errorf("store cursors: %w", err)
	case w.Hooks.Retry != nil:
		w.Hooks.Retry("store cursors", 1, err, w.storeEvery())
	}
	return nil
}

func (w *worker) storeEvery() time.Duration {
	if w.StoreEvery == 0 {
		return 500 * time.Millisecond
	}
	return w.StoreEvery
}
