package table_test

import (
	"context"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/history"
	"github.com/doubletap-cdc/doubletap/replay/table"
)

// TestWhatComesBetweenPlanAndWalk: a plan fixes the ends of the walk, and then
// somebody is asked, and a process may be killed. What the table gets meanwhile is
// in the binlog, behind the end of the walk too, and where it was empty.
func TestWhatComesBetweenPlanAndWalk(t *testing.T) {
	for _, f := range flavors {
		for _, c := range []struct {
			name   string
			before string // what the table gets before the plan; may be empty
			after  string // and after it
			open   func(*rig) (replay.Source, error)
			want   []string
		}{
			{"a walk", "INSERT INTO item VALUES (1, 1), (2, 2)", "UPDATE item SET category = category + 10; INSERT INTO item VALUES (9, 9)",
				func(r *rig) (replay.Source, error) {
					return table.Open(r.deps, table.Spec{DB: r.db, Table: "item", Between: true})
				},
				[]string{"item:1", "item:2", "item:9", "list:1", "list:2", "list:9", "list:11", "list:12"}},
			{"it was empty", "", "INSERT INTO item VALUES (9, 9)",
				func(r *rig) (replay.Source, error) {
					return table.Open(r.deps, table.Spec{DB: r.db, Table: "item", Between: true})
				},
				[]string{"item:9", "list:9"}},
			{"rows by their keys", "INSERT INTO item VALUES (1, 1), (2, 2)", "UPDATE item SET category = category + 10",
				func(r *rig) (replay.Source, error) {
					return table.OpenRows(r.deps, table.RowsSpec{DB: r.db, Table: "item", File: keyFile(t, "1"), Between: true})
				},
				[]string{"item:1", "list:1", "list:11"}},
		} {
			t.Run(f.name+"/"+c.name, func(t *testing.T) {
				r := newRig(t, f, `{name: item, table: "%s.item", key: "item:{id}"}`, `{name: list, table: "%s.item", key: "list:{category}"}`)
				r.deps.Binlog = func(low, high string) (replay.Source, error) {
					return history.OpenBinlog(history.BinlogDeps{Source: r.source(), Name: "shop", Schema: r.deps.Schema.Hash()}, history.BinlogSpec{Set: high, After: low})
				}
				r.exec("CREATE TABLE item (id INT PRIMARY KEY, category INT NOT NULL)")
				if c.before != "" {
					r.exec(c.before)
				}
				src, err := c.open(r)
				if err != nil {
					t.Fatal(err)
				}
				if err := src.Read(t.Context(), "", func(context.Context, replay.Chunk) error { return nil }); err == nil {
					t.Error("it was read before it was planned")
				}
				plan, err := src.Plan(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				r.exec(strings.Split(c.after, "; ")...)
				var spec table.Spec
				var rows table.RowsSpec
				if decode(t, replay.Cursor(plan.Fixed), &rows); rows.File != "" {
					src, err = table.OpenRows(r.deps, rows)
				} else {
					decode(t, replay.Cursor(plan.Fixed), &spec)
					src, err = table.Open(r.deps, spec)
				}
				if err != nil {
					t.Fatal(err)
				}
				got := &seen{}
				if err := src.Read(t.Context(), "", func(_ context.Context, c replay.Chunk) error { got.take(t, r.deps.Schema, c); return nil }); err != nil {
					t.Fatal(err)
				}
				if m := missing(c.want, got.keys); len(m) > 0 || len(got.scopes) > 0 {
					t.Errorf("not brought: %v; swept %v", m, got.scopes)
				}
			})
		}
	}
}
