package table

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// lookUp makes the events of some rows. Each row is a SELECT of its own, many of
// them in one statement: only the server knows which of the keys given are those of
// a row it found, since 'ALICE' may be found as 'alice'.
func (g *given) lookUp(ctx context.Context, asked []asked, gone *int64) ([]pipeline.Event, error) {
	if err := g.open(ctx); err != nil {
		return nil, err
	}
	b := g.rows.begin(len(asked))
	b.unbounded = true
	found := make([]bool, len(asked))
	for start := 0; start < len(asked); start += rowsQuery {
		var sql strings.Builder
		some := asked[start:min(start+rowsQuery, len(asked))]
		for i, one := range some {
			if i > 0 {
				sql.WriteString(" UNION ALL ")
			}
			fmt.Fprintf(&sql, "(SELECT %s, %d FROM %s FORCE INDEX (%s) WHERE %s)", strings.Join(g.rows.exprs, ", "), start+i, g.table.path(), backtick(g.table.key.name), one.where)
		}
		err := g.conn.Query(ctx, sql.String(), func(row [][]byte) error {
			n := 0
			if _, err := fmt.Sscan(string(row[len(row)-1]), &n); err != nil || n < 0 || n >= len(found) {
				return fmt.Errorf("the server numbers a row %q", row[len(row)-1])
			}
			found[n] = true
			return b.add(row[:len(row)-1])
		})
		if err != nil {
			return nil, fmt.Errorf("look up lines %d to %d in %s.%s: %w", some[0].line, some[len(some)-1].line, g.table.db, g.table.name, lasting(err))
		}
	}
	view, err := g.deps.ask(ctx)
	if err != nil {
		return nil, err
	}
	head := pipeline.Event{Version: pipeline.Version, Source: g.deps.Source, GTID: view.Written.String(), Schema: g.deps.Schema.Hash()}
	events := b.events(head, g.table, &g.swept)
	lost := head
	lost.Kind, lost.Seq, lost.Reason = pipeline.KindKeys, len(events), "rows of "+g.table.db+"."+g.table.name+" that no longer exist"
	for i, one := range asked {
		if found[i] {
			continue
		}
		lost.Keys = append(lost.Keys, g.keysOf(one)...)
		if len(g.others) > 0 {
			*gone++
		}
	}
	if len(lost.Keys) > 0 {
		events = append(events, lost)
	}
	return events, nil
}

// keysOf builds what can be built of a key alone.
func (g *given) keysOf(one asked) (made []string) {
	for _, r := range g.rules {
		args := make([]any, 0, len(r.KeyColumns()))
		for _, c := range r.KeyColumns() {
			for i, k := range g.table.key.columns {
				if strings.EqualFold(k.name, c) {
					args = append(args, one.texts[i])
				}
			}
		}
		if key, err := g.deps.Schema.Key(r.Name(), args...); err == nil {
			made = append(made, key)
		}
	}
	return made
}

// Gone says, of the newest cursor of a source of this package, how many of the rows
// asked for are gone while some rule's keys hold more than their key: those keys
// stay, unless the whole table is invalidated.
func Gone(c replay.Cursor) int64 {
	var at struct {
		rowsCursor
		Walk replay.Cursor `json:"walk"`
	}
	if json.Unmarshal([]byte(c), &at) != nil {
		return 0
	}
	if at.Walk != "" {
		return Gone(at.Walk)
	}
	return at.Gone
}
