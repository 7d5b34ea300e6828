package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
)

// OnGap says what a tailer does when a part of the source's history is lost.
type OnGap string

// The choices.
const (
	GapInvalidate OnGap = "invalidate" // invalidate everything, then go on
	GapStop       OnGap = "stop"       // end with ErrPositionLost
)

// ErrPositionLost ends a Tailer whose position cannot be resumed and whose
// OnGap is GapStop.
var ErrPositionLost = errors.New("the stored position cannot be resumed")

// Tailer reads a source's transactions, waits until each is visible, and
// appends its events to the log.
type Tailer struct {
	Name      string // the source's name, in every event
	Schema    *keys.Schema
	Source    Source
	Gate      Gate // nil: publish at once (for showing what the gate is for)
	Publisher Publisher
	Positions Positions
	Prepared  Prepared // nil: an XA COMMIT invalidates the tables that it concerns
	Start     string   // where to begin when no position is stored: see Source.Start
	OnGap     OnGap    // "" is GapInvalidate
	Hooks     Hooks
	// CheckpointEvery is the least time between two stored positions; 0 is 100 ms.
	CheckpointEvery time.Duration
}

// Run tails until ctx ends, and then returns nil, or until something happens
// that no retry can mend. It reconnects by itself.
func (t *Tailer) Run(ctx context.Context) error {
	r := &tailRun{Tailer: t, flight: new(inflight), progress: newProgress()}
	err := r.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// tailRun is the state of one Run.
type tailRun struct {
	*Tailer
	flight   *inflight
	stored   Checkpoint // as last stored
	progress *progress
	xa       xaState

	// Of the stream's goroutine.
	open    *openTxn
	failed  int // attempts to read, in a row, before this one
	seq     int
	gate    bool           // the open transaction has passed the gate
	swept   map[Scope]bool // tables that the open transaction has invalidated
	writers []eventWriter  // one for each partition; empty between batches
}

func (r *tailRun) run(ctx context.Context) error {
	if err := r.load(ctx); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		before, began := r.stored.Position, time.Now()
		err := r.stream(ctx)
		if ctx.Err() != nil || errors.Is(err, ErrFatal) || errors.Is(err, ErrPositionLost) {
			return err
		}
		if r.stored.Position != before || time.Since(began) > lastWait {
			attempt = 1
		}
		in := backoff(attempt)
		if r.Hooks.Retry != nil {
			r.Hooks.Retry("read binlog", attempt, err, in)
		}
		r.failed = attempt
		if err := sleep(ctx, in); err != nil {
			return err
		}
	}
}

// load finds the position to begin at. A first position is stored before the
// first event is read, so that a crash right after the first start loses nothing.
func (r *tailRun) load(ctx context.Context) error {
	err := retry(ctx, &r.Hooks, "load position", func(ctx context.Context) (err error) {
		r.stored, err = r.Positions.Load(ctx)
		return err
	})
	if err != nil || r.stored.Position != "" {
		return err
	}
	var first Checkpoint
	err = retry(ctx, &r.Hooks, "find first position", func(ctx context.Context) (err error) {
		first.Position, err = r.Source.Start(ctx, r.Start)
		return err
	})
	if err != nil {
		return fmt.Errorf("start at %q: %w", r.Start, err)
	}
	// Whatever was cached before this position was never watched.
	first.Pending = "first start"
	return r.save(ctx, first)
}

func (r *tailRun) save(ctx context.Context, c Checkpoint) error {
	err := retry(ctx, &r.Hooks, "store position", func(ctx context.Context) error {
		return r.Positions.Save(ctx, c)
	})
	if err == nil {
		r.stored = c
	}
	return err
}

// stream reads from the stored position until the connection breaks.
func (r *tailRun) stream(ctx context.Context) error {
	// The address may lead to another server by now, whose history a gate must
	// not judge by what the old one has shown.
	if g, ok := r.Gate.(interface{ Reset() }); ok {
		g.Reset()
	}
	if err := r.check(ctx); err != nil {
		return err
	}
	if err := r.publishPending(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r.xaBegin()
	from := r.stored.Position
	r.progress.begin()
	var wg sync.WaitGroup
	wg.Go(func() { cancel(r.checkpoints(ctx)) })
	wg.Go(func() { r.tellProgress(ctx, from) })
	err := r.Source.Run(ctx, from, r.batch)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if r.open != nil {
		r.flight.abandon(r.open)
		r.open = nil
	}
	// What is on its way must be settled before the stream starts again behind
	// the position: a position moves over nothing that may still fail.
	if derr := r.flight.drain(ctx); derr != nil {
		err = derr
	}
	cancel(err)
	wg.Wait()
	return err
}

// check asks whether the stored position can be resumed, and deals with a gap.
func (r *tailRun) check(ctx context.Context) error {
	err := r.Source.Check(ctx, r.stored.Position)
	gap, ok := errors.AsType[*GapError](err)
	if !ok {
		return err
	}
	if r.Hooks.Gap != nil {
		r.Hooks.Gap(gap.Reason)
	}
	if r.OnGap == GapStop {
		return fmt.Errorf("%w: %s", ErrPositionLost, gap.Reason)
	}
	// The gap may have swallowed the end of any prepared transaction, and another
	// one with its xid: none is known from here on.
	return r.save(ctx, Checkpoint{Position: gap.Next, Pending: gap.Reason})
}

// gtidSet is the stored position as a GTID set, where the Source can say it: an
// event is for people and other programs too.
func (r *tailRun) gtidSet() string {
	if s, ok := r.Source.(interface{ GTIDSet(Position) string }); ok {
		return s.GTIDSet(r.stored.Position)
	}
	return string(r.stored.Position)
}

// publishPending puts the whole invalidation that the position owes into the log.
func (r *tailRun) publishPending(ctx context.Context) error {
	if r.stored.Pending == "" {
		return nil
	}
	o, err := r.flight.begin(ctx, Txn{GTID: r.gtidSet()})
	if err != nil {
		return err
	}
	r.seq = 0
	err = r.publishScopes(ctx, o, []Scope{Everything}, r.stored.Pending)
	r.flight.abandon(o) // it is no transaction: it adds nothing to the position
	if err != nil {
		return err
	}
	if err := r.flight.drain(ctx); err != nil {
		return err
	}
	return r.save(ctx, Checkpoint{Position: r.stored.Position, Prepared: r.stored.Prepared})
}

// checkpoints stores positions as transactions become durable, until ctx ends;
// then once more.
func (r *tailRun) checkpoints(ctx context.Context) error {
	every := r.CheckpointEvery
	if every == 0 {
		every = 100 * time.Millisecond
	}
	last := time.Now()
	for {
		err := r.flight.ready(ctx)
		if err == nil {
			// At once after a pause: applications wait for their own writes.
			err = sleep(ctx, time.Until(last.Add(every+r.xaPace())))
			last = time.Now()
		}
		if serr := r.checkpoint(ctx); serr != nil {
			return serr
		}
		if err != nil {
			return err
		}
	}
}

func (r *tailRun) checkpoint(ctx context.Context) error {
	ctx, cancel := outlive(ctx)
	defer cancel()
	done, failed := r.flight.take()
	if len(done) == 0 {
		return failed
	}
	gtids := make([]string, len(done))
	for i, o := range done {
		gtids[i] = o.txn.GTID
		if r.Hooks.Published != nil && o.records > 0 {
			r.Hooks.Published(PublishedInfo{Txn: o.txn, Rows: o.rows, Records: o.records})
		}
	}
	next, err := r.Source.Advance(r.stored.Position, gtids)
	if err != nil {
		return fmt.Errorf("advance position by %s: %w: %w", gtids[0], ErrFatal, err)
	}
	prepared, changed := r.keep(done)
	if err := r.save(ctx, Checkpoint{Position: next, Prepared: prepared}); err != nil {
		return err
	}
	if changed {
		r.released()
	}
	r.progress.moved(next)
	if r.Hooks.Checkpoint != nil {
		r.Hooks.Checkpoint(CheckpointInfo{Position: next, CommittedAt: done[len(done)-1].txn.CommittedAt})
	}
	return failed
}
