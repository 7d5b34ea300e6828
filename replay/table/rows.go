package table

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// RowsSpec says which rows of a table are replayed: those with the keys in a file.
type RowsSpec struct {
	DB    string `json:"db"`
	Table string `json:"table"`
	// File has one row's key in each line: a JSON array of its values, or the values
	// separated by tabs or commas (quoted as CSV has it), in the order of the key's
	// columns, in canonical text (docs/schema.md). A key of one column may stand in
	// the line as it is. Empty lines are left out, and so is a first line of the
	// columns' names. The file must stay until the replay is over.
	File string `json:"file"`
	// Between and Low are as in Spec.
	Between bool    `json:"between,omitempty"`
	Low     *string `json:"low,omitempty"`
	// Key is what Plan found: the index by which rows are looked up.
	Key string `json:"key,omitempty"`
}

// OpenRows returns the source for a RowsSpec: a new one, or Plan.Fixed of an
// earlier one. It opens nothing.
func OpenRows(d Deps, spec RowsSpec) (replay.Source, error) {
	switch {
	case spec.DB == "" || spec.Table == "":
		return nil, errors.New("name the table as database.table")
	case spec.File == "":
		return nil, errors.New("give a file of primary keys")
	case spec.Between && d.Binlog == nil:
		return nil, errors.New("the binlog of the time of the replay is asked for, and there is nothing to read it with")
	}
	s := &given{deps: d, spec: spec}
	if spec.Between {
		return &between{deps: d, first: s, scope: pipeline.TableScope(spec.DB, spec.Table), low: &s.spec.Low}, nil
	}
	return s, nil
}

// given is a Source of rows by their keys.
type given struct {
	deps Deps
	spec RowsSpec

	conn   Conn
	table  *table
	rows   *rowReader
	rules  []*keys.Rule // that can be served by the key alone
	others []string     // the names of those that cannot
	swept  bool
}

const (
	rowsChunk = 1000    // lines
	rowsQuery = 200     // that are looked up with one statement
	maxLine   = 1 << 20 // bytes
)

// rowsCursor is what its replay.Cursor holds.
type rowsCursor struct {
	Offset int64 `json:"offset"` // of the next line
	Line   int64 `json:"line"`   // that were read
	Gone   int64 `json:"gone"`   // rows that are gone and whose keys are not all known
}

// Plan implements replay.Source. It reads the whole file, so that a bad line is
// told before anything is deleted.
func (g *given) Plan(ctx context.Context) (p replay.Plan, err error) {
	err = g.deps.retry(ctx, "plan the replay of rows", func(ctx context.Context) error {
		defer g.close()
		g.spec.Key = ""
		if _, err := g.deps.ask(ctx); err != nil {
			return err
		}
		return g.open(ctx)
	})
	if err != nil {
		return p, err
	}
	g.spec.Key = g.table.key.name
	var at rowsCursor
	f, err := os.Open(g.spec.File)
	if err != nil {
		return p, fmt.Errorf("read primary keys: %w", err)
	}
	defer func() { _ = f.Close() }()
	lines := newLines(f, &at, g.table.key)
	for {
		one, err := lines.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return p, err
		}
		if one != nil {
			p.Rows++
		}
	}
	p.What = []string{fmt.Sprintf("table %s.%s: %d rows, looked up by its key %s (%s)", g.table.db, g.table.name, p.Rows, g.spec.Key, strings.Join(g.table.key.names(), ", "))}
	if len(g.others) > 0 {
		p.Warnings = []string{fmt.Sprintf("Keys of rule %s hold columns beside the key %s: where a row no longer exists, they cannot be known, and neither can keys of former values. Such rows are counted; replay table -whole deletes the keys.",
			strings.Join(g.others, ", "), g.spec.Key)}
	}
	p.Fixed, err = json.Marshal(g.spec)
	return p, err
}

func (g *given) close() {
	if g.conn != nil {
		_ = g.conn.Close()
		g.conn = nil
	}
}

// open connects and looks at the table.
func (g *given) open(ctx context.Context) error {
	if g.conn != nil {
		return nil
	}
	c, err := g.deps.Connect(ctx)
	if err != nil {
		return lasting(err)
	}
	g.conn = c
	t, err := describe(ctx, c, g.spec.DB, g.spec.Table)
	if err == nil {
		err = t.chooseKey(ctx, c, g.spec.Key)
	}
	if err != nil {
		return err
	}
	need, err := g.deps.need(t)
	if err != nil {
		return err
	}
	g.table, g.rows = t, newRowReader(t, need, g.deps.Schema)
	g.rules, g.others = nil, nil
	for _, r := range need.rules {
		if rest := beside(r.KeyColumns(), t.key.names()); len(rest) == 0 {
			g.rules = append(g.rules, r)
		} else {
			g.others = append(g.others, r.Name())
		}
	}
	return nil
}

// beside returns those of columns that key has not.
func beside(columns, key []string) (rest []string) {
	for _, c := range columns {
		if !contains(key, c) {
			rest = append(rest, c)
		}
	}
	return rest
}

// Read implements replay.Source.
func (g *given) Read(ctx context.Context, from replay.Cursor, fn func(context.Context, replay.Chunk) error) error {
	var at rowsCursor
	if from != "" {
		if err := json.Unmarshal([]byte(from), &at); err != nil {
			return fmt.Errorf("go on with primary keys from %q: %w", from, err)
		}
	}
	f, err := os.Open(g.spec.File)
	if err != nil {
		return fmt.Errorf("read primary keys: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err == nil {
		_, err = f.Seek(at.Offset, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("read primary keys: %w", err)
	}
	var lines *lines
	return ahead(ctx, func(ctx context.Context) (c replay.Chunk, last bool, err error) {
		if lines == nil {
			if err := g.deps.retry(ctx, "look up rows", g.attempt(g.open)); err != nil {
				return c, false, err
			}
			lines = newLines(f, &at, g.table.key)
		}
		asked, last, err := lines.take(rowsChunk)
		if err != nil || len(asked) == 0 {
			return c, last, err
		}
		err = g.deps.retry(ctx, "look up rows of "+g.spec.DB+"."+g.spec.Table, g.attempt(func(ctx context.Context) error {
			c.Events, err = g.lookUp(ctx, asked, &at.Gone)
			return err
		}))
		if err != nil {
			return c, false, err
		}
		next, err := json.Marshal(at)
		c.Rows, c.Next, c.Done = int64(len(asked)), replay.Cursor(next), 1
		if size := info.Size(); size > at.Offset {
			c.Done = float64(at.Offset) / float64(size)
		}
		return c, last, err
	}, g.close, fn)
}

// attempt closes the connection where fn fails, so that the next try opens one.
func (g *given) attempt(fn func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		err := fn(ctx)
		if err != nil {
			g.close()
		}
		return err
	}
}
