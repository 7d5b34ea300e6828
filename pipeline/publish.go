package pipeline

import (
	"context"
	"hash/fnv"
	"slices"

	"github.com/doubletap-cdc/doubletap/keys"
)

// A record is closed once it is larger than recordSize. A row that makes it
// larger than maxRecord is not published as such: its table is invalidated.
const (
	recordSize = 64 << 10
	maxRecord  = 512 << 10
)

// publishRows encodes rows into records, several rows of one partition in each,
// and hands them to the log.
func (r *tailRun) publishRows(ctx context.Context, o *openTxn, tables []TableRows) error {
	if r.writers == nil {
		r.writers = make([]eventWriter, r.Publisher.Partitions())
	}
	clear(r.writers)
	e := r.event(o.txn, KindChanges)
	var records []Record
	rows := 0
	for i := range tables {
		t := &tables[i]
		route := r.route(t)
		for _, row := range t.Rows {
			p := route(row)
			w := &r.writers[p]
			if !w.begun() {
				e.Seq = r.seq
				r.seq++
				w.begin(&e)
			}
			if reason := addRow(w, t, row); reason != "" {
				if err := r.sweep(ctx, o, t, reason); err != nil {
					return err
				}
				continue
			}
			rows++
			if len(w.buf) > recordSize {
				records = append(records, Record{Partition: p, Data: w.end()})
			}
		}
	}
	for p := range r.writers {
		if w := &r.writers[p]; w.written > 0 {
			records = append(records, Record{Partition: p, Data: w.end()})
		}
	}
	if len(records) == 0 {
		return nil
	}
	return r.flight.publish(ctx, r.Publisher, o, rows, records)
}

// sweep invalidates the table of a row that has no place in a record, once in a
// transaction.
func (r *tailRun) sweep(ctx context.Context, o *openTxn, t *TableRows, reason string) error {
	s := TableScope(t.DB, t.Table)
	if r.swept[s] {
		return nil
	}
	if r.swept == nil {
		r.swept = make(map[Scope]bool)
	}
	r.swept[s] = true
	return r.publishScopes(ctx, o, []Scope{s}, reason)
}

// addRow returns why the row cannot be written; then it was not.
func addRow(w *eventWriter, t *TableRows, row Row) string {
	mark := *w
	if err := w.add(t, row); err != nil {
		return err.Error()
	}
	if len(w.buf)-len(mark.buf) > maxRecord {
		*w = mark
		return "the key columns of a row are too large for a record"
	}
	return ""
}

// maxScopes bounds the scopes of one record: even with names of the greatest
// length, 64 characters each and every one quoted, it stays below maxRecord.
const maxScopes = 500

// publishScopes publishes a whole-table invalidation, in several records where
// one would be too large.
func (r *tailRun) publishScopes(ctx context.Context, o *openTxn, scopes []Scope, reason string) error {
	e := r.event(o.txn, KindInvalidate)
	e.Reason = reason
	for _, s := range scopes {
		if r.Hooks.OverInvalidated != nil {
			r.Hooks.OverInvalidated(OverInfo{Scope: s, Reason: reason})
		}
	}
	var records []Record
	for part := range slices.Chunk(scopes, maxScopes) {
		e.Seq, e.Scopes = r.seq, part
		r.seq++
		p := int(hashText(part[0].DB, part[0].Table) % uint64(r.Publisher.Partitions()))
		records = append(records, Record{Partition: p, Data: encodeInvalidate(&e)})
	}
	return r.flight.publish(ctx, r.Publisher, o, 0, records)
}

func (r *tailRun) event(t Txn, kind string) Event {
	return Event{
		Version: Version, Kind: kind, Source: r.Name, GTID: t.GTID,
		CommittedAt: t.CommittedAt, Schema: r.Schema.Hash(),
	}
}

// route returns the function that chooses a row's partition: by the first
// rule's key columns, so that the changes of one row mostly stay together and
// their deletes can be merged. Nothing relies on it.
func (r *tailRun) route(t *TableRows) func(Row) int {
	n := uint64(r.Publisher.Partitions())
	var cols []int
	if table := r.Schema.Table(t.DB, t.Table); table != nil {
		cols = table.Route()
	}
	base := hashText(t.DB, t.Table)
	return func(row Row) int {
		image := row.Before
		if image == nil {
			image = row.After
		}
		return int((base ^ hashValues(image, cols)) % n)
	}
}

func hashText(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return h.Sum64()
}

func hashValues(image []keys.Value, cols []int) uint64 {
	h := fnv.New64a()
	for _, c := range cols {
		if c < len(image) {
			h.Write([]byte(image[c].Text))
			h.Write([]byte{0, byte(image[c].Kind)})
		}
	}
	return h.Sum64()
}
