package pipeline

import (
	"context"
	"fmt"
	"sync"
)

// inflight keeps the transactions that were read and are not yet durable, in
// commit order, and gives out those that may be added to the position: finished
// with, durable, and with no unfinished one before them (I2, I3).
type inflight struct {
	mu      sync.Mutex
	queue   []*openTxn
	done    []*openTxn    // durable, not yet in a stored position
	err     error         // the Publisher gave up
	changed chan struct{} // closed and replaced at every change
}

// openTxn is one transaction on its way.
type openTxn struct {
	txn       Txn
	rows      int
	records   int
	pending   int  // publish calls that are not durable yet
	ended     bool // its last batch was handed over
	abandoned bool // cut off: it comes again, and does not count
}

func newInflight() *inflight { return &inflight{changed: make(chan struct{})} }

func (f *inflight) begin(t Txn) *openTxn {
	o := &openTxn{txn: t}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, o)
	return o
}

// publishing counts a publish call of o and returns its done function.
func (f *inflight) publishing(o *openTxn, rows, records int) func(error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o.pending++
	o.rows += rows
	o.records += records
	return func(err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		o.pending--
		if err != nil && f.err == nil {
			f.err = fmt.Errorf("publish events of %s: %w: %w", o.txn.GTID, ErrFatal, err)
		}
		f.advance()
	}
}

// end says that o's last batch was handed over.
func (f *inflight) end(o *openTxn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o.ended = true
	f.advance()
}

// abandon says that o was cut off.
func (f *inflight) abandon(o *openTxn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o.ended, o.abandoned = true, true
	f.advance()
}

// advance moves finished transactions from the queue's head. f.mu is held.
// After an error nothing moves any more: what follows it may never be passed.
func (f *inflight) advance() {
	n := 0
	for f.err == nil && n < len(f.queue) && f.queue[n].ended && f.queue[n].pending == 0 {
		if !f.queue[n].abandoned {
			f.done = append(f.done, f.queue[n])
		}
		n++
	}
	if n > 0 {
		clear(f.queue[:n])
		f.queue = f.queue[n:]
	}
	if n > 0 || f.err != nil {
		close(f.changed)
		f.changed = make(chan struct{})
	}
}

// take returns what has become durable since the last call.
func (f *inflight) take() ([]*openTxn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	done := f.done
	f.done = nil
	return done, f.err
}

// drain waits until nothing is on its way.
func (f *inflight) drain(ctx context.Context) error {
	return f.wait(ctx, func() bool { return len(f.queue) == 0 })
}

// ready waits until take has something to give.
func (f *inflight) ready(ctx context.Context) error {
	return f.wait(ctx, func() bool { return len(f.done) > 0 })
}

// wait blocks until cond, called with f.mu held, holds or the Publisher gave up.
func (f *inflight) wait(ctx context.Context, cond func() bool) error {
	for {
		f.mu.Lock()
		ok, err, changed := cond(), f.err, f.changed
		f.mu.Unlock()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}
