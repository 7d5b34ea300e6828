package binlog

import (
	"context"
	"slices"
	"strings"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// A batch holds at most so many rows, or about so many bytes of values, so that
// a transaction of any size passes through in flat memory.
const (
	batchRows  = 1000
	batchBytes = 256 << 10
)

// assembler makes batches of what a driver finds in the binlog. It opens a
// transaction at its GTID and closes it only where the binlog says that it is
// complete (I3). All its memory is used again for the next batch.
type assembler struct {
	fn    func(context.Context, pipeline.Batch) error
	ended func(pipeline.Txn) // a transaction was handed over completely

	txn    pipeline.Txn
	open   bool // between a GTID and the transaction's end
	begun  bool // inside BEGIN: statements do not end the transaction
	sent   bool // a batch of this transaction was handed over
	last   pipeline.Txn
	orphan []doubt // found outside any transaction, before the first one
	xa     pipeline.XAStep
	xid    string // with a step that ends the transaction

	tables  []tableRef
	rows    []rowRef
	vals    []value
	buf     []byte
	stale   []pipeline.Scope // all of this transaction, to say each only once
	staleAt int              // those before it have been handed over
	reasons []string

	outTables []pipeline.TableRows
	outRows   []pipeline.Row
	outVals   []keys.Value
}

type doubt struct {
	scope  pipeline.Scope
	reason string
}

// tableRef is a run of rows of one table.
type tableRef struct {
	plan *plan
	rows int // how many
}

// rowRef is a row: where its values stand in vals, -1 for no image.
type rowRef struct{ before, after int }

// begin opens a transaction. One that is still open has no end in the binlog
// that we know: a new GTID ends it.
func (a *assembler) begin(ctx context.Context, txn pipeline.Txn, begun bool) error {
	if a.open {
		if err := a.end(ctx); err != nil {
			return err
		}
	}
	a.txn, a.open, a.begun, a.sent = txn, true, begun, false
	a.xa, a.xid = "", ""
	for _, d := range a.orphan {
		a.invalidate(d.reason, d.scope)
	}
	a.orphan = nil
	return nil
}

// heldBack says that the open transaction is one of XA: what it changes is not
// committed, as far as is known before its end. What was found before it began
// is no part of it.
func (a *assembler) heldBack(ctx context.Context) error {
	if !a.open {
		return nil
	}
	if len(a.rows) > 0 || a.staleAt < len(a.stale) {
		if err := a.flush(ctx, false); err != nil {
			return err
		}
	}
	a.stale, a.staleAt = a.stale[:0], 0
	a.begun, a.xa = true, pipeline.XAHeld
	return nil
}

// endXA closes a transaction that is a step of the XA transaction xid.
func (a *assembler) endXA(ctx context.Context, step pipeline.XAStep, xid string) error {
	a.xa, a.xid = step, xid
	return a.end(ctx)
}

// end closes the transaction and hands over what is left of it: possibly
// nothing, so that the position moves.
func (a *assembler) end(ctx context.Context) error {
	if !a.open {
		return nil
	}
	if a.xa == pipeline.XAHeld { // it ended as others do
		a.xa = pipeline.XAOnePhase
	}
	if err := a.flush(ctx, true); err != nil {
		return err
	}
	a.open, a.begun, a.xa, a.xid = false, false, "", ""
	a.last = a.txn
	a.stale, a.staleAt = a.stale[:0], 0
	a.ended(a.txn)
	return nil
}

// invalidate says that whole tables are stale. Outside a transaction the
// newest one takes it, which is harmless: it is complete and comes first.
func (a *assembler) invalidate(reason string, scopes ...pipeline.Scope) {
	for _, s := range scopes {
		if !a.open {
			a.orphan = append(a.orphan, doubt{s, reason})
			continue
		}
		if slices.Contains(a.stale, s) || slices.Contains(a.stale, pipeline.Everything) {
			continue
		}
		a.stale = append(a.stale, s)
		if !slices.Contains(a.reasons, reason) && len(a.reasons) < 8 {
			a.reasons = append(a.reasons, reason)
		}
	}
}

// outside hands over invalidations that belong to no transaction at once, with
// the newest complete transaction; before the first one they wait for it.
func (a *assembler) outside(ctx context.Context, reason string, scopes ...pipeline.Scope) error {
	if a.open || a.last.GTID == "" {
		a.invalidate(reason, scopes...)
		return nil
	}
	a.txn, a.open, a.begun, a.sent = a.last, true, false, false
	a.invalidate(reason, scopes...)
	return a.end(ctx)
}

// isStale says whether the table's rows need no reading, because it is stale as
// a whole in this transaction.
func (a *assembler) isStale(p *plan) bool {
	return len(a.stale) > 0 && (slices.Contains(a.stale, p.scope()) || slices.Contains(a.stale, pipeline.Everything))
}

// rowsOf hands over the rows of one rows event.
func (a *assembler) rowsOf(ctx context.Context, e *rowsEvent) error {
	p := e.plan
	switch {
	case p == nil || p.table == nil || a.isStale(p):
		return nil
	case p.stale != "":
		a.invalidate(p.db+"."+p.name+": "+p.stale, p.scope())
		return nil
	case len(p.wanted) == 0:
		// The keys do not depend on the row: one stands for all.
		a.addRow(p, e.kind.before, e.kind.after)
		return a.flushIfFull(ctx)
	}
	if len(e.rows) == 0 {
		// With a MINIMAL image and nothing but defaults a row takes no room.
		a.invalidate(p.db+"."+p.name+": a row image has no columns", p.scope())
	}
	for rest := e.rows; len(rest) > 0; {
		ref := a.addRow(p, e.kind.before, e.kind.after)
		var doubt string
		var err error
		left := len(rest)
		if ref.before >= 0 {
			rest, a.buf, doubt, err = p.image(rest, e.bitmap[0], false, e.kind.partial, a.vals[ref.before:ref.before+len(p.wanted)], a.buf)
		}
		if ref.after >= 0 && doubt == "" && err == nil {
			rest, a.buf, doubt, err = p.image(rest, e.bitmap[1], true, e.kind.partial, a.vals[ref.after:ref.after+len(p.wanted)], a.buf)
		}
		if err != nil {
			doubt = err.Error()
		} else if doubt == "" && len(rest) == left {
			doubt = "a row image has no columns"
		}
		if doubt != "" {
			a.dropRow(ref)
			a.invalidate(p.db+"."+p.name+": "+doubt, p.scope())
			return nil
		}
		if err := a.flushIfFull(ctx); err != nil {
			return err
		}
	}
	return nil
}

// addRow makes room for a row with all values Absent.
func (a *assembler) addRow(p *plan, before, after bool) rowRef {
	if n := len(a.tables); n == 0 || a.tables[n-1].plan != p {
		a.tables = append(a.tables, tableRef{plan: p})
	}
	a.tables[len(a.tables)-1].rows++
	ref := rowRef{-1, -1}
	image := func() int {
		at := len(a.vals)
		for range p.wanted {
			a.vals = append(a.vals, value{})
		}
		return at
	}
	if before {
		ref.before = image()
	}
	if after {
		ref.after = image()
	}
	a.rows = append(a.rows, ref)
	return ref
}

// dropRow takes back the newest row.
func (a *assembler) dropRow(ref rowRef) {
	a.rows = a.rows[:len(a.rows)-1]
	a.vals = a.vals[:max(0, min(uint(ref.before), uint(ref.after)))]
	if t := &a.tables[len(a.tables)-1]; t.rows > 1 {
		t.rows--
	} else {
		a.tables = a.tables[:len(a.tables)-1]
	}
}

func (a *assembler) flushIfFull(ctx context.Context) error {
	if len(a.rows) < batchRows && len(a.buf) < batchBytes {
		return nil
	}
	return a.flush(ctx, false)
}

// flush hands over a batch.
func (a *assembler) flush(ctx context.Context, last bool) error {
	b := pipeline.Batch{Txn: a.txn, First: !a.sent, Last: last, XA: a.xa, XID: a.xid}
	b.Tables = a.materialise()
	if a.staleAt < len(a.stale) {
		b.Invalidate = a.stale[a.staleAt:]
		b.Reason = strings.Join(a.reasons, "; ")
		a.staleAt, a.reasons = len(a.stale), nil
	}
	err := a.fn(ctx, b)
	a.sent = true
	a.tables, a.rows, a.vals, a.buf = a.tables[:0], a.rows[:0], a.vals[:0], a.buf[:0]
	return err
}

// materialise turns the references into the batch's slices. All texts of a
// batch share one string.
func (a *assembler) materialise() []pipeline.TableRows {
	if len(a.rows) == 0 {
		return nil
	}
	text := string(a.buf)
	a.outVals = slices.Grow(a.outVals[:0], len(a.vals))[:len(a.vals)]
	for i, v := range a.vals {
		a.outVals[i] = keys.Value{Kind: v.kind, Text: text[v.from:v.to]}
	}
	a.outRows, a.outTables = a.outRows[:0], a.outTables[:0]
	for _, t := range a.tables {
		n := len(t.plan.wanted)
		for _, r := range a.rows[len(a.outRows) : len(a.outRows)+t.rows] {
			var row pipeline.Row
			if r.before >= 0 {
				row.Before = a.outVals[r.before : r.before+n : r.before+n]
			}
			if r.after >= 0 {
				row.After = a.outVals[r.after : r.after+n : r.after+n]
			}
			a.outRows = append(a.outRows, row)
		}
	}
	at := 0
	for _, t := range a.tables {
		a.outTables = append(a.outTables, pipeline.TableRows{
			DB: t.plan.db, Table: t.plan.name, Columns: t.plan.wanted, Rows: a.outRows[at : at+t.rows : at+t.rows],
		})
		at += t.rows
	}
	return a.outTables
}
