package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// xaState is what a tailRun knows of prepared XA transactions. here belongs to
// the goroutine of the stream, the rest to that of the checkpoints.
type xaState struct {
	here   preparedSet // at the stream's place
	stored preparedSet // in the stored checkpoint
	end    int64       // the end of the records of all that were ever stored
}

// xaBegin takes over what the stored checkpoint says.
func (r *tailRun) xaBegin() {
	x := &r.xa
	x.here, x.stored = parsePrepared(r.stored.Prepared), parsePrepared(r.stored.Prepared)
	for _, p := range x.stored {
		x.end = max(x.end, p.Next)
	}
	if r.Hooks.Prepared != nil {
		r.Hooks.Prepared(len(x.stored), 0)
	}
}

// hold keeps the rows of a batch that is not committed.
func (r *tailRun) hold(ctx context.Context, b *Batch) error {
	p := r.open.held
	if p == nil {
		p = &preparedTxn{GTID: b.Txn.GTID, Schema: r.Schema.Hash(), txn: r.open, Lost: r.Prepared == nil}
		r.open.held = p
	}
	p.touch(b)
	if records := r.encodeHeld(b); len(records) > 0 && !p.Lost {
		if err := r.flight.hold(ctx, r.Prepared, p, records); err != nil {
			return err
		}
	}
	if b.XA == XAPrepare {
		p.XID = b.XID
		r.open.prepared = p
		r.xa.here.add(p)
	}
	return nil
}

// encodeHeld encodes a batch as events of the PREPARE's GTID. They are encoded
// again when they are published, for the partitions that there are then.
func (r *tailRun) encodeHeld(b *Batch) (records [][]byte) {
	var w eventWriter
	e := r.event(b.Txn, KindChanges)
	var stale []Scope
	for i := range b.Tables {
		t := &b.Tables[i]
		for _, row := range t.Rows {
			if !w.begun() {
				w.begin(&e)
			}
			if reason := addRow(&w, t, row); reason != "" {
				stale = append(stale, TableScope(t.DB, t.Table))
				break // of this table's rows the others need no place either
			}
			if len(w.buf) > recordSize {
				records = append(records, w.end())
			}
		}
	}
	if w.written > 0 {
		records = append(records, w.end())
	}
	e = r.event(b.Txn, KindInvalidate)
	for _, x := range []struct {
		scopes []Scope
		reason string
	}{{stale, "a row of an XA transaction has no place in a record"}, {b.Invalidate, b.Reason}} {
		for at := 0; at < len(x.scopes); at += maxScopes {
			e.Scopes, e.Reason = x.scopes[at:min(at+maxScopes, len(x.scopes))], x.reason
			records = append(records, encodeInvalidate(&e))
		}
	}
	return records
}

// release handles the end of an XA transaction: what was prepared is published,
// as changes of the transaction that commits it, or dropped.
func (r *tailRun) release(ctx context.Context, b *Batch) error {
	switch b.XA {
	case XAOnePhase:
		if p := r.open.held; p != nil {
			return r.publishHeld(ctx, b, p)
		}
	case XACommit:
		p := r.xa.here.find(b.XID)
		r.forget(b.XID)
		if p != nil {
			return r.publishHeld(ctx, b, p)
		}
		if err := r.pass(ctx, b.Txn); err != nil {
			return err
		}
		return r.publishScopes(ctx, r.open, []Scope{Everything},
			"XA COMMIT of a transaction whose PREPARE is not known: it was before the first position, in a gap, or among too many")
	case XARollback:
		r.forget(b.XID)
	}
	return nil
}

// forget removes an xid here, and from the checkpoint together with the move of
// the position over the open transaction.
func (r *tailRun) forget(xid string) {
	r.xa.here.remove(xid)
	r.open.forgets = xid
}

// publishHeld publishes what p has kept, once b's transaction is visible.
func (r *tailRun) publishHeld(ctx context.Context, b *Batch, p *preparedTxn) error {
	other := p.Schema != r.Schema.Hash() // then there may be keys of tables that were not kept
	if len(p.Tables) == 0 && !other {
		return nil
	}
	if err := r.pass(ctx, b.Txn); err != nil {
		return err
	}
	if other {
		return r.publishScopes(ctx, r.open, []Scope{Everything}, "an XA transaction was prepared under another key schema")
	}
	reason, err := r.readBack(ctx, p)
	if err == nil && reason != "" {
		err = r.publishScopes(ctx, r.open, p.Tables, "the rows of an XA transaction cannot be had: "+reason)
	}
	return err
}

// readBack publishes p's records, one at a time, as what the open transaction
// has changed. reason says why that is not all of them.
func (r *tailRun) readBack(ctx context.Context, p *preparedTxn) (reason string, err error) {
	if p.Lost || r.Prepared == nil {
		return "they were not kept", nil
	}
	if err := r.flight.settled(ctx, p.txn); err != nil {
		return "", err
	}
	var failed error // of what was done with a record
	from, got := p.From, 0
	take := func(m Message) error {
		mine, err := r.republish(ctx, p, m.Data)
		if mine {
			got++
		}
		from, failed = m.Offset+1, err
		return err
	}
	err = retry(ctx, &r.Hooks, "read the rows of a prepared transaction", func(ctx context.Context) error {
		err := r.Prepared.Read(ctx, from, p.Next, take)
		if gap, ok := errors.AsType[*LogGapError](err); ok && failed == nil {
			reason = gap.Error()
			return nil
		}
		if failed != nil {
			return nil
		}
		return err
	})
	switch {
	case failed != nil:
		return "", failed
	case err != nil || reason != "":
		return reason, err
	case got < p.Records: // another sequence of records is in their place
		return fmt.Sprintf("%d of %d records are there", got, p.Records), nil
	}
	return "", nil
}

// republish publishes one record of p with the open transaction's GTID. mine is
// false for a record of another transaction, or of a PREPARE that was cut off.
func (r *tailRun) republish(ctx context.Context, p *preparedTxn, data []byte) (mine bool, err error) {
	e, err := DecodeEvent(data)
	if err != nil || e.GTID != p.GTID || e.Source != r.Name {
		return false, nil // where it was one of p's, it is missing now
	}
	if err := r.flight.few(ctx, r.open); err != nil {
		return true, err
	}
	if e.Kind == KindInvalidate {
		return true, r.publishScopes(ctx, r.open, e.Scopes, e.Reason)
	}
	return true, r.publishRows(ctx, r.open, e.Tables)
}

// keep notes in the checkpoint's set what transactions that are done with have
// prepared and ended, and returns the set's text.
func (r *tailRun) keep(done []*openTxn) (text string, changed bool) {
	forgotten := 0
	for _, o := range done {
		if o.forgets != "" {
			r.xa.stored.remove(o.forgets)
			changed = true
		}
		if p := o.prepared; p != nil {
			forgotten += r.xa.stored.add(p)
			r.xa.end = max(r.xa.end, p.Next)
			changed = true
		}
	}
	if !changed {
		return r.stored.Prepared, false
	}
	text, more := r.xa.stored.encode()
	if r.Hooks.Prepared != nil {
		r.Hooks.Prepared(len(r.xa.stored), forgotten+more)
	}
	return text, true
}

// xaPace is how much longer than usual the next checkpoint is waited for: one
// with thousands of prepared transactions is large.
func (r *tailRun) xaPace() time.Duration {
	return time.Duration(len(r.stored.Prepared)) * time.Microsecond
}

// released lets go of records that no stored transaction needs any more. What
// is on its way was appended behind all that is stored.
func (r *tailRun) released() {
	if r.Prepared != nil {
		r.Prepared.Release(r.xa.stored.low(r.xa.end))
	}
}

// hold hands records of p's transaction to q, and counts them as pending.
func (f *inflight) hold(ctx context.Context, q Prepared, p *preparedTxn, records [][]byte) error {
	o := p.txn
	if err := f.few(ctx, o); err != nil {
		return err
	}
	f.mu.Lock()
	o.pending++
	p.Records += len(records)
	f.mu.Unlock()

	var once sync.Once
	err := q.Append(ctx, records, func(from, next int64, err error) {
		once.Do(func() {
			if err == nil {
				f.mu.Lock()
				p.extend(from, next)
				f.mu.Unlock()
			}
			f.settle(o, err)
		})
	})
	if err != nil { // refused: the caller has to abandon o
		once.Do(func() { f.settle(o, nil) })
	}
	return err
}

// maxHeld bounds what an XA transaction has on its way at a time, in calls of
// about recordSize. Its rows come faster than those of others, being read back or
// kept in one piece, and would fill every buffer to its limit.
const maxHeld = 24

// few waits until o has little on its way.
func (f *inflight) few(ctx context.Context, o *openTxn) error {
	return f.wait(ctx, func() bool { return o.pending < maxHeld })
}

// settled waits until nothing of o is pending; nil is settled.
func (f *inflight) settled(ctx context.Context, o *openTxn) error {
	if o == nil {
		return nil
	}
	return f.wait(ctx, func() bool { return o.pending == 0 })
}
