package pipeline

import (
	"context"
	"fmt"
	"sync"
)

// maxInflight bounds the transactions that are on their way. Those without rows
// for the log are not held up by the Publisher, and would pile up behind one
// that is.
const maxInflight = 1 << 16

// inflight keeps the transactions that were read and are not yet durable, in
// commit order, and gives out those that may be added to the position: finished
// with, durable, and with no unfinished one before them (I2, I3).
type inflight struct {
	mu      sync.Mutex
	queue   []*openTxn
	done    []*openTxn    // durable, not yet in a stored position
	err     error         // the Publisher gave up
	changed chan struct{} // closed at the next change; nil while nobody waits
}

// openTxn is one transaction on its way.
type openTxn struct {
	txn       Txn
	rows      int
	records   int
	pending   int  // publish calls that are not durable yet
	ended     bool // its last batch was handed over
	abandoned bool // cut off: it comes again, and does not count

	// Of XA transactions; set before ended.
	held     *preparedTxn // what has been held of it
	prepared *preparedTxn // the same, once it is prepared
	forgets  string       // the xid that it ends
}

// begin adds a transaction; it waits while there are too many.
func (f *inflight) begin(ctx context.Context, t Txn) (*openTxn, error) {
	err := f.wait(ctx, func() bool { return len(f.queue)+len(f.done) < maxInflight })
	if err != nil {
		return nil, err
	}
	o := &openTxn{txn: t}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, o)
	return o, nil
}

// publish hands records of o to p, and counts them as pending until p calls back.
func (f *inflight) publish(ctx context.Context, p Publisher, o *openTxn, rows int, records []Record) error {
	f.mu.Lock()
	o.pending++
	o.rows += rows
	o.records += len(records)
	f.mu.Unlock()

	var once sync.Once
	err := p.Publish(ctx, records, func(err error) {
		once.Do(func() { f.settle(o, err) })
	})
	if err != nil { // refused: the caller has to abandon o
		once.Do(func() { f.settle(o, nil) })
	}
	return err
}

// settle ends one publish call of o; err says that the Publisher gave up.
func (f *inflight) settle(o *openTxn, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o.pending--
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("publish events of %s: %w: %w", o.txn.GTID, ErrFatal, err)
	}
	f.advance()
	f.notify()
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
	clear(f.queue[:n])
	f.queue = f.queue[n:]
	if n > 0 || f.err != nil {
		f.notify()
	}
}

// take returns what has become durable since the last call.
func (f *inflight) take() ([]*openTxn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	done := f.done
	f.done = nil
	if len(done) > 0 {
		f.notify()
	}
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
		if f.err != nil || cond() {
			defer f.mu.Unlock()
			return f.err
		}
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// notify wakes all who wait. f.mu is held.
func (f *inflight) notify() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}
