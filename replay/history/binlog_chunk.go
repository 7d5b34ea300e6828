package history

import (
	"slices"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

const (
	// chunkRows is how many rows a chunk has at least before it is handed over. A
	// batch of the source, which is bounded, comes on top.
	chunkRows = 2000
	// chunkTxns bounds the transactions that are read without a row for a chunk
	// before the cursor moves.
	chunkTxns = 5000
	// clockBack is how far a server's clock may have been set back within the
	// range: reading goes on for so long behind Until.
	clockBack = time.Minute
	// maxXA bounds the XA transactions that are remembered. One that is pushed out
	// invalidates everything at its COMMIT.
	maxXA = 1000
)

// batch takes one batch of the stream.
func (r *binlogRead) batch(b pipeline.Batch) error {
	if r.over != nil {
		return r.over
	}
	if b.First {
		r.first(b.Txn)
	}
	if !r.whole && !r.spec.Until.IsZero() && b.Txn.CommittedAt.After(r.spec.Until.Add(clockBack)) {
		return r.finish()
	}
	wanted := r.wanted(&b)
	fresh := r.fresh(b.Tables, wanted)
	if wanted {
		r.add(&b, fresh)
	}
	r.xaStep(&b, wanted)
	if b.Last && r.last(b.Txn.GTID) {
		return r.finish()
	}
	if r.size >= chunkRows || len(r.chunk.Events) >= chunkRows || len(r.ended) >= chunkTxns || r.chunk.Rows >= 100*chunkRows {
		return r.hand()
	}
	return nil
}

// first opens a transaction, which may be one that was cut off and comes again.
func (r *binlogRead) first(t pipeline.Txn) {
	if t.GTID != r.txn {
		r.txn, r.done = t.GTID, 0
	}
	r.got, r.seq = 0, 0
	r.late = !r.spec.Until.IsZero() && t.CommittedAt.After(r.spec.Until)
	// Commits are in the order of the binlog: what comes behind the first one that
	// is in the range was committed later, whatever the clock or a time that is
	// that of a statement's beginning says.
	if t.CommittedAt.IsZero() || !t.CommittedAt.Before(r.spec.Since.Truncate(time.Second)) {
		r.reached = true
	}
}

// wanted says whether the batch is part of what is replayed.
func (r *binlogRead) wanted(b *pipeline.Batch) bool {
	if !r.want.Has(b.Txn.GTID) || r.late {
		return false
	}
	// The COMMIT of what is prepared before the range may be in it.
	return r.reached || b.XA == pipeline.XAHeld || b.XA == pipeline.XAPrepare
}

// fresh returns copies of the rows that have not been in a chunk before, none
// where they are not wanted, and counts all of them.
func (r *binlogRead) fresh(tables []pipeline.TableRows, wanted bool) []pipeline.TableRows {
	var out []pipeline.TableRows
	for _, t := range tables {
		skip := min(max(r.done-r.got, 0), int64(len(t.Rows)))
		r.got += int64(len(t.Rows))
		rows := t.Rows[skip:]
		if len(rows) == 0 {
			continue
		}
		r.done = r.got
		r.chunk.Rows += int64(len(rows))
		if wanted {
			out = append(out, pipeline.TableRows{DB: t.DB, Table: t.Table, Columns: t.Columns, Rows: copyRows(rows)})
			r.size += int64(len(rows))
		}
	}
	return out
}

// copyRows copies what the source uses again for its next batch.
func copyRows(rows []pipeline.Row) []pipeline.Row {
	n := 0
	for _, row := range rows {
		n += len(row.Before) + len(row.After)
	}
	values := make([]keys.Value, 0, n)
	image := func(of []keys.Value) []keys.Value {
		if of == nil {
			return nil
		}
		from := len(values)
		values = append(values, of...)
		return values[from:len(values):len(values)]
	}
	out := make([]pipeline.Row, len(rows))
	for i, row := range rows {
		out[i] = pipeline.Row{Before: image(row.Before), After: image(row.After)}
	}
	return out
}

// add puts a batch into the chunk. Events of a transaction have the same numbers
// each time that it is read.
func (r *binlogRead) add(b *pipeline.Batch, fresh []pipeline.TableRows) {
	e := r.event(b)
	if len(b.Tables) > 0 {
		if len(fresh) > 0 {
			e.Kind, e.Seq, e.Tables = pipeline.KindChanges, r.seq, fresh
			r.chunk.Events = append(r.chunk.Events, e)
		}
		r.seq++
	}
	if len(b.Invalidate) > 0 {
		r.invalidate(b, slices.Clone(b.Invalidate), b.Reason)
	}
}

func (r *binlogRead) invalidate(b *pipeline.Batch, scopes []pipeline.Scope, reason string) {
	e := r.event(b)
	e.Kind, e.Seq, e.Scopes, e.Reason = pipeline.KindInvalidate, r.seq, scopes, reason
	r.chunk.Events = append(r.chunk.Events, e)
	r.seq++
}

func (r *binlogRead) event(b *pipeline.Batch) pipeline.Event {
	e := pipeline.Event{Version: pipeline.Version, Source: r.Name, GTID: b.Txn.GTID, CommittedAt: b.Txn.CommittedAt, Schema: r.Schema}
	if b.XA == pipeline.XAHeld || b.XA == pipeline.XAPrepare {
		// A reader that shows the PREPARE may still have the old rows. The COMMIT, if
		// there is one, is in what was executed.
		e.GTID = r.spec.Executed
	}
	return e
}

// xaStep remembers which XA transactions were replayed at their PREPARE.
func (r *binlogRead) xaStep(b *pipeline.Batch, wanted bool) {
	i := slices.Index(r.xa, b.XID)
	switch b.XA {
	case pipeline.XAPrepare:
		if wanted && i < 0 {
			if len(r.xa) == maxXA {
				r.xa = slices.Delete(r.xa, 0, 1)
			}
			r.xa = append(r.xa, b.XID)
		}
	case pipeline.XACommit, pipeline.XARollback:
		if i >= 0 {
			r.xa = slices.Delete(r.xa, i, i+1)
		} else if wanted && b.XA == pipeline.XACommit {
			r.invalidate(b, []pipeline.Scope{pipeline.Everything}, "an XA transaction was prepared before the range that is replayed")
		}
	}
}

// last notes that a transaction has come whole. It returns whether the range has.
func (r *binlogRead) last(id string) bool {
	if r.end.Has(id) && !r.seen.Has(id) {
		r.left--
		r.moved = time.Now()
		r.waiting.Reset(r.Patience)
	}
	_ = r.seen.Add(id) // it is a GTID: the source says so
	r.ended = append(r.ended, id)
	r.txn, r.done, r.got = "", 0, 0
	// On MariaDB one can stand for many: numbers are left out where transactions
	// were not written to the binlog.
	return r.left == 0 || !strings.Contains(id, ":") && r.seen.HasAll(r.end)
}

// finish hands over what is left and ends the stream.
func (r *binlogRead) finish() error {
	if err := r.hand(); err != nil {
		return err
	}
	r.over = errBinlogEnd
	return r.over
}

// hand hands the chunk over.
func (r *binlogRead) hand() error {
	if err := r.advance(nil); err != nil {
		return err
	}
	c := r.chunk
	c.Done = 1
	if left := r.seen.Missing(r.end); r.total > 0 {
		c.Done = 1 - float64(left)/float64(r.total)
	}
	cursor := binlogCursor{At: r.at, Reached: r.reached, XA: r.xa}
	if r.done > 0 {
		cursor.GTID, cursor.Rows, cursor.Schema = r.txn, r.done, r.Schema
	}
	c.Next = cursor.encode()
	r.chunk, r.size = replay.Chunk{}, 0
	r.waiting.Stop()
	if err := r.fn(r.ctx, c); err != nil {
		r.over = err
		return err
	}
	r.moved = time.Now()
	r.waiting.Reset(r.Patience)
	return nil
}
