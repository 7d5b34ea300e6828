package table

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// Deps are what a walk needs besides its Spec.
type Deps struct {
	// Connect opens a session on the source itself; see SQL. It is called again
	// where a session breaks.
	Connect func(context.Context) (Conn, error)
	// View says what the source shows. It is asked on the same server, by one
	// goroutine at a time: a reader of package binlog does it.
	View func(context.Context) (pipeline.View, error)
	// Source is its name in the configuration.
	Source string
	Schema *keys.Schema
	// Columns names further columns that are needed of a table, for keys of another
	// schema; it may be nil. Those that the table does not have come with no row.
	Columns func(db, table string) []string
	// Binlog opens what replays the transactions that are in high and not in low,
	// both GTID sets in the source's own notation. Its Plan is called first, each
	// time. What that warns of, and a *pipeline.GapError, invalidate the whole table.
	// It is needed for Spec.Between only.
	Binlog func(low, high string) (replay.Source, error)
	// Hooks is told what is tried again; it may be nil.
	Hooks *pipeline.Hooks
}

func (d *Deps) retry(ctx context.Context, op string, fn func(context.Context) error) error {
	h := d.Hooks
	if h == nil {
		h = &pipeline.Hooks{}
	}
	return pipeline.Retry(ctx, h, op, fn)
}

// Spec says what of which table is replayed.
type Spec struct {
	DB    string `json:"db"`
	Table string `json:"table"`
	// Where is a condition in SQL on the table's columns; "" is all rows. Times in
	// it are UTC, and NOW() is the time of the plan.
	Where string `json:"where,omitempty"`
	// Whole deletes every key that depends on the table instead of walking it.
	Whole bool `json:"whole,omitempty"`
	// Between replays the binlog of the time since the plan after the walk: for when
	// no live pipeline with the same key schema runs.
	Between bool `json:"between,omitempty"`
	// Chunk is how many rows are read at once; 0 is DefaultChunk.
	Chunk int `json:"chunk,omitempty"`
	// Low is what the source showed before Plan looked at the table, with Between;
	// nil before.
	Low *string `json:"low,omitempty"`
	// Fixed is what Plan found; nil before.
	Fixed *Fixed `json:"fixed,omitempty"`
}

// DefaultChunk is how many rows a chunk has.
const DefaultChunk = 4000

// maxChunk bounds the memory of a chunk, and what is done again after a crash.
const maxChunk = 10000

// Fixed are the bounds of a walk, which do not change when it is resumed.
type Fixed struct {
	Key     string   `json:"key"`             // the index that is walked
	Columns []string `json:"columns"`         // of it
	First   []string `json:"first,omitempty"` // key values, as cursors hold them; none where the table is empty
	Last    []string `json:"last,omitempty"`
	Rows    int64    `json:"rows"`          // about; -1 if the server does not say
	Now     int64    `json:"now,omitempty"` // what NOW() is in the condition, in seconds since 1970
	By      string   `json:"by,omitempty"`  // the index that finds the rows of the condition; none: they are looked for
}

// Open returns the source for a Spec: a new one, or Plan.Fixed of an earlier one.
// It asks nobody.
func Open(d Deps, spec Spec) (replay.Source, error) {
	if err := checkSpec(&d, &spec); err != nil {
		return nil, err
	}
	if spec.Whole {
		return &whole{d, spec}, nil
	}
	w := &walk{deps: d, spec: spec}
	if spec.Between {
		return &between{deps: d, first: w, scope: pipeline.TableScope(spec.DB, spec.Table), low: &w.spec.Low}, nil
	}
	return w, nil
}

func checkSpec(d *Deps, spec *Spec) error {
	switch {
	case spec.DB == "" || spec.Table == "":
		return errors.New("name the table as database.table")
	case spec.Whole && spec.Where != "":
		return errors.New("-whole deletes all keys of the table, whatever their rows: leave out the condition, or -whole")
	case spec.Chunk < 0 || spec.Chunk > maxChunk:
		return fmt.Errorf("a chunk of %d rows: choose from 1 to %d, or 0 for %d", spec.Chunk, maxChunk, DefaultChunk)
	case spec.Between && !spec.Whole && d.Binlog == nil:
		return errors.New("the binlog of the time of the walk is asked for, and there is nothing to read it with")
	}
	if spec.Chunk == 0 {
		spec.Chunk = DefaultChunk
	}
	return checkWhere(spec.Where)
}

// walk is a Source of the rows of a table.
type walk struct {
	deps Deps
	spec Spec
}

// Plan implements replay.Source.
func (w *walk) Plan(ctx context.Context) (replay.Plan, error) {
	var p replay.Plan
	err := w.deps.retry(ctx, "plan the walk", func(ctx context.Context) error {
		c, err := w.deps.Connect(ctx)
		if err != nil {
			return lasting(err)
		}
		defer func() { _ = c.Close() }()
		p, err = w.plan(ctx, c)
		return err
	})
	return p, err
}

func (w *walk) plan(ctx context.Context, c Conn) (p replay.Plan, err error) {
	t, err := describe(ctx, c, w.spec.DB, w.spec.Table)
	if err != nil {
		return p, err
	}
	if err := t.chooseKey(ctx, c, ""); err != nil {
		return p, err
	}
	need, err := w.deps.need(t)
	if err == nil {
		_, err = w.deps.ask(ctx) // a missing privilege is better told now
	}
	if err != nil {
		return p, err
	}
	f := &Fixed{Key: t.key.name, Columns: t.key.names(), Rows: t.rows}
	if w.spec.Where != "" {
		f.Now = time.Now().Unix()
		by, rows, err := tryWhere(ctx, c, t, w.spec.Where, f.Now)
		if err != nil {
			return p, err
		}
		if by != "" {
			f.By, f.Rows = by, rows
		}
	}
	if f.First, err = t.end(ctx, c, false); err == nil {
		f.Last, err = t.end(ctx, c, true)
	}
	if err != nil {
		return p, fmt.Errorf("find the ends of %s.%s: %w", t.db, t.name, lasting(err))
	}
	if f.First == nil || f.Last == nil {
		f.First, f.Last, f.Rows = nil, nil, 0
	}
	w.spec.Fixed = f
	p.Rows, p.What = f.Rows, w.what(t, need.columns)
	p.Warnings = warnings(t, need)
	p.Fixed, err = json.Marshal(w.spec)
	return p, err
}

// what describes the walk for people.
func (w *walk) what(t *table, columns []string) []string {
	f := w.spec.Fixed
	rows := "the rows"
	if f.Rows >= 0 {
		rows = fmt.Sprintf("about %d rows", f.Rows)
	}
	if f.Last == nil {
		rows = "no row: it is empty"
	}
	what := []string{fmt.Sprintf("table %s.%s: %s, in chunks of %d, by its key %s (%s), without locks", t.db, t.name, rows, w.spec.Chunk, f.Key, strings.Join(f.Columns, ", "))}
	if len(columns) > 0 {
		what = append(what, "columns that keys are made of, or conditions read: "+strings.Join(columns, ", "))
	}
	if w.spec.Where != "" {
		how := "every row is looked at"
		if f.By != "" {
			how = "rows are found by the index " + f.By
		}
		what = append(what, fmt.Sprintf("%s; replayed are those with (%s); times in it are UTC, and now is %s",
			how, w.spec.Where, time.Unix(f.Now, 0).UTC().Format(time.DateTime)))
	}
	return what
}

// end returns the first or the last key, nil if the table is empty.
func (t *table) end(ctx context.Context, c Conn, last bool) (at []string, err error) {
	exprs := make([]string, len(t.key.columns))
	for i, c := range t.key.columns {
		exprs[i] = c.keyExpr()
	}
	sql := "SELECT " + strings.Join(exprs, ", ") + t.from() + " ORDER BY " + t.key.order(last) + " LIMIT 1"
	err = c.Query(ctx, sql, func(v [][]byte) error {
		at = t.key.store(v)
		return nil
	})
	return at, err
}
