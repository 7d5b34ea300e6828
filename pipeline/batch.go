package pipeline

import (
	"context"
	"fmt"
	"time"
)

// batch handles one piece of a transaction: gate, encode, publish.
func (r *tailRun) batch(ctx context.Context, b Batch) error {
	if r.failed > 0 {
		if r.Hooks.Recovered != nil {
			r.Hooks.Recovered("read binlog", r.failed)
		}
		r.failed = 0
	}
	if b.First {
		if r.open != nil { // cut off; it comes again now
			r.flight.abandon(r.open)
			r.open = nil
		}
		o, err := r.flight.begin(ctx, b.Txn)
		if err != nil {
			return err
		}
		r.open, r.seq, r.gate = o, 0, false
		clear(r.swept)
	}
	if r.open == nil || r.open.txn.GTID != b.Txn.GTID {
		return fmt.Errorf("%w: a batch of %s came without its start", ErrFatal, b.Txn.GTID)
	}
	if err := r.handle(ctx, &b); err != nil {
		return err
	}
	if b.Last {
		r.flight.end(r.open)
		r.open = nil
	}
	return nil
}

// handle does with a batch's content what is to be done with it.
func (r *tailRun) handle(ctx context.Context, b *Batch) error {
	if b.XA == XAHeld || b.XA == XAPrepare {
		return r.hold(ctx, b)
	}
	if b.XA != "" {
		if err := r.release(ctx, b); err != nil {
			return err
		}
	}
	if b.empty() {
		return nil
	}
	if err := r.pass(ctx, b.Txn); err != nil {
		return err
	}
	if err := r.publishRows(ctx, r.open, b.Tables); err != nil {
		return err
	}
	if len(b.Invalidate) == 0 {
		return nil
	}
	return r.publishScopes(ctx, r.open, b.Invalidate, b.Reason)
}

// pass waits at the gate, once per transaction, and only for one that has
// something to publish.
func (r *tailRun) pass(ctx context.Context, t Txn) error {
	if r.gate || r.Gate == nil {
		return nil
	}
	start := time.Now()
	stop := r.telling(t, start)
	err := r.Gate.Wait(ctx, t)
	stop()
	if err != nil {
		return err
	}
	r.gate = true
	if r.Hooks.Held != nil {
		r.Hooks.Held(HeldInfo{Txn: t, Held: time.Since(start)})
	}
	return nil
}
