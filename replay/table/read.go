package table

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// cursor is what a walk's replay.Cursor holds.
type cursor struct {
	Key  []string `json:"key"`  // of the last row that was looked at
	Rows int64    `json:"rows"` // that were looked at
}

// store makes text for cursors of key values: bytes of text are in hex, since they
// need not be UTF-8.
func (k *key) store(values [][]byte) []string {
	out := make([]string, len(k.columns))
	for i, c := range k.columns {
		if cl := classOf(c.column); cl == text || cl == octets {
			out[i] = hex.EncodeToString(values[i])
		} else {
			out[i] = string(values[i])
		}
	}
	return out
}

// literals makes SQL of what store made. They come from a file that somebody may
// have edited, so numbers are looked at.
func (k *key) literals(stored []string) ([]string, error) {
	if len(stored) != len(k.columns) {
		return nil, fmt.Errorf("a place in the table has %d values, the key %s has %d columns", len(stored), k.name, len(k.columns))
	}
	out := make([]string, len(stored))
	for i, c := range k.columns {
		v := []byte(stored[i])
		switch classOf(c.column) {
		case text, octets:
			var err error
			if v, err = hex.DecodeString(stored[i]); err != nil {
				return nil, fmt.Errorf("a place in the table has a value of %s that is not in hex: %w", c.name, err)
			}
		case number, member:
			if _, ok := new(big.Rat).SetString(stored[i]); !ok {
				return nil, fmt.Errorf("a place in the table has a value of %s that is no number", c.name)
			}
		case unordered, moment:
		}
		out[i] = c.literal(v)
	}
	return out, nil
}

// Read implements replay.Source. The next chunk is read while fn has the one
// before.
func (w *walk) Read(ctx context.Context, from replay.Cursor, fn func(context.Context, replay.Chunk) error) error {
	if w.spec.Fixed == nil {
		return errors.New("read a table: it was not planned")
	}
	if w.spec.Fixed.Last == nil {
		return nil // it was empty
	}
	spec := w.spec
	r := &reader{deps: &w.deps, spec: &spec, limit: w.spec.Chunk}
	if from != "" {
		if err := json.Unmarshal([]byte(from), &r.at); err != nil {
			return fmt.Errorf("read %s.%s from %q: %w", w.spec.DB, w.spec.Table, from, err)
		}
	}
	return ahead(ctx, r.chunk, r.close, fn)
}

// ahead calls fn with what next returns until that says that it was the last, and
// runs next for one more meanwhile. It ends when both have.
func ahead(ctx context.Context, next func(context.Context) (c replay.Chunk, last bool, err error), end func(), fn func(context.Context, replay.Chunk) error) error {
	within, cancel := context.WithCancel(ctx)
	chunks := make(chan replay.Chunk)
	failed := make(chan error, 1)
	go func() {
		defer close(chunks)
		defer end()
		for {
			c, last, err := next(within)
			if err != nil {
				failed <- err
				return
			}
			if c.Rows > 0 {
				select {
				case chunks <- c:
				case <-within.Done():
					failed <- context.Cause(within)
					return
				}
			}
			if last {
				failed <- nil
				return
			}
		}
	}()
	defer func() {
		cancel()
		for range chunks { // until the goroutine has ended
		}
	}()
	for c := range chunks {
		if err := fn(ctx, c); err != nil {
			return err
		}
	}
	return <-failed
}

// slowChunk is how long one SELECT may take before the next ones are smaller.
const slowChunk = 2 * time.Second

// reader reads the chunks of a walk. It is used by one goroutine.
type reader struct {
	deps  *Deps
	spec  *Spec
	at    cursor
	limit int

	conn  Conn
	table *table
	until []string // literals
	rows  *rowReader
	swept bool // the table's keys are all deleted, since a value was not certain
}

func (r *reader) close() {
	if r.conn != nil {
		_ = r.conn.Close()
		r.conn = nil
	}
}

// chunk reads the next chunk, however often it takes.
func (r *reader) chunk(ctx context.Context) (c replay.Chunk, last bool, err error) {
	err = r.deps.retry(ctx, "read table "+r.spec.DB+"."+r.spec.Table, func(ctx context.Context) error {
		if c, last, err = r.try(ctx); err != nil {
			r.close()
		}
		return err
	})
	return c, last, err
}

func (r *reader) try(ctx context.Context) (c replay.Chunk, last bool, err error) {
	if err := r.open(ctx); err != nil {
		return c, false, err
	}
	var after []string
	if r.at.Key != nil {
		if after, err = r.table.key.literals(r.at.Key); err != nil {
			return c, false, fmt.Errorf("%w: %w", err, pipeline.ErrFatal)
		}
	}
	limit, begin := r.limit, time.Now()
	b := r.rows.begin(limit)
	if err := r.conn.Query(ctx, r.table.chunkSQL(r.rows, after, r.until, limit), b.add); err != nil {
		r.took(time.Since(begin), limit/2) // perhaps it was given up for that
		return c, false, fmt.Errorf("read %s.%s: %w", r.table.db, r.table.name, lasting(err))
	}
	if b.looked == 0 {
		return c, true, nil
	}
	// The set is asked for after the rows were read. A transaction that they show and
	// that it lacks (see written) is one that somebody else handles in any case.
	view, err := r.deps.ask(ctx)
	if err != nil {
		return c, false, err
	}
	// A chunk of very large values ends early, and the next one asks for fewer rows.
	r.limit = min(2*b.looked, r.spec.Chunk)
	r.took(time.Since(begin), b.looked)
	last = b.looked < limit && !b.full
	r.at = cursor{Key: r.table.key.store(b.last), Rows: r.at.Rows + int64(b.looked)}
	next, err := json.Marshal(r.at)
	if err != nil {
		return c, false, err
	}
	c = replay.Chunk{Rows: int64(b.looked), Next: replay.Cursor(next), Done: r.done(last)}
	head := pipeline.Event{Version: pipeline.Version, Source: r.deps.Source, GTID: view.Written.String(), Schema: r.deps.Schema.Hash()}
	c.Events = b.events(head, r.table, &r.swept)
	return c, last, nil
}

// took makes the next chunk smaller where one of so many rows took the server long,
// well before the session's time limit for an answer. Where it was an index that was
// to find few rows, they are not few, and the table is walked from here on.
func (r *reader) took(d time.Duration, rows int) {
	switch {
	case r.spec.Fixed.By != "" && d > 5*slowChunk:
		by := *r.spec.Fixed
		by.By = ""
		r.spec.Fixed = &by
		r.rows.only(r.spec.Where, "")
	case r.spec.Fixed.By == "" && d > slowChunk:
		r.limit = max(rows/2, 1)
	}
}

// open connects, and looks at the table again: it may have been altered since the
// connection before.
func (r *reader) open(ctx context.Context) error {
	if r.conn != nil {
		return nil
	}
	c, err := r.deps.Connect(ctx)
	if err != nil {
		return lasting(err)
	}
	r.conn = c
	f := r.spec.Fixed
	t, err := describe(ctx, c, r.spec.DB, r.spec.Table)
	if err != nil {
		return err
	}
	if err := t.chooseKey(ctx, c, f.Key); err != nil {
		return err
	}
	if !slices.Equal(t.key.names(), f.Columns) {
		return fmt.Errorf("the key %s of %s.%s has other columns than when its walk began: start a new replay: %w", f.Key, t.db, t.name, pipeline.ErrFatal)
	}
	need, err := r.deps.need(t)
	if err != nil {
		return err
	}
	if r.until, err = t.key.literals(f.Last); err != nil {
		return fmt.Errorf("%w: %w", err, pipeline.ErrFatal)
	}
	if r.spec.Where != "" {
		if err := ready(ctx, c, t.db, f.Now); err != nil {
			return lasting(err)
		}
	}
	r.table, r.rows = t, newRowReader(t, need, r.deps.Schema)
	r.rows.only(r.spec.Where, f.By)
	return nil
}

// done says how much of the walk lies before the cursor: by the first key column
// where that is an integer of some range, else by the rows.
func (r *reader) done(last bool) float64 {
	f := r.spec.Fixed
	if last {
		return 1
	}
	if c := r.table.key.columns[0]; classOf(c.column) == number {
		from, to, at := decimal(f.First[0]), decimal(f.Last[0]), decimal(r.at.Key[0])
		if span := to - from; (span > 1 || span < -1) && (len(r.table.key.columns) == 1 || span > 1000 || span < -1000) {
			return min(max((at-from)/span, 0), 1)
		}
	}
	if f.Rows <= 0 {
		return -1
	}
	return min(float64(r.at.Rows)/float64(f.Rows), 0.999)
}

func decimal(s string) float64 {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return 0
	}
	f, _ := r.Float64()
	return f
}
