package table_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/table"
)

func TestConditions(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			r := newItems(t, f, 50)
			r.exec("UPDATE item SET title = 'it''s (x; \"y' WHERE id = 7")
			for _, c := range []struct {
				where string
				rows  int
			}{
				{"category = 3", 10}, {"category = 3 OR id < 10", 18}, {"title IS NULL", 49}, {"title = 'it''s (x; \"y'", 1}, {"title <> 'b'", 1},
				{"id IN (SELECT id FROM item i WHERE i.category = 0)", 10}, {"NOW() = NOW() AND id < 40", 40}, {"id", 49}, {"NULL", 0},
			} {
				got := r.walk(table.Spec{Table: "item", Where: c.where, Chunk: 8})
				if len(got.rows) != c.rows || len(got.chunks) != 7 {
					t.Errorf("%s: %d rows in %d chunks, want %d", c.where, len(got.rows), len(got.chunks), c.rows)
				}
			}
			for _, c := range []struct{ where, want string }{
				{"WHERE id = 1", "comes after it"}, {"SELECT id FROM item", "is a query"}, {"id = 1; DROP TABLE item", "has a ;"}, {"id = 1)", "did not open"},
				{"id = 1) OR (1", "did not open"}, {"(id = 1", "does not close"}, {"id = 'a", "not closed"}, {"id = 1 -- x", "comment"}, {"id = 1 /* x */", "comment"},
				{"id = 1 # x", "comment"}, {" ", "empty"}, {"categroy = 1", "the columns are id, category, title"}, {"id = = 1", "put after WHERE"},
				{"COUNT(*) > 1", "the server says"}, {"id = 1 ORDER BY id", "put after WHERE"}, {"id = \"tea\" LIMIT 5", "put after WHERE"},
			} {
				expectErr(t, r.planError(table.Spec{Table: "item", Where: c.where}), c.want, "condition")
			}
			if n := len(r.texts("SELECT 1 FROM item")); n != 50 {
				t.Errorf("the table has %d rows left", n)
			}
		})
	}
}

// TestConditionsByTheirIndex: few rows are found by the index that the optimizer
// would take, and no other row is looked at.
func TestConditionsByTheirIndex(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			r := newItems(t, f, 3000)
			r.exec("UPDATE item SET category = id DIV 10", "ALTER TABLE item ADD KEY category (category)", "ANALYZE TABLE item")
			for _, c := range []struct {
				where, by string
				rows      int64
				chunks    int
			}{
				{"category IN (7, 250)", "category", 20, 4}, {"id BETWEEN 10 AND 15", "PRIMARY", 6, 2}, {"category = 7 AND id > 75", "category", 4, 1},
				{"category > 100", "", 3000, 600}, {"title = 'x'", "", 3000, 600},
			} {
				got := r.walk(table.Spec{Table: "item", Where: c.where, Chunk: 5})
				var spec table.Spec
				decode(t, replay.Cursor(got.plan.Fixed), &spec)
				looked := int64(0)
				for _, one := range got.chunks {
					looked += one.Rows
				}
				if spec.Fixed.By != c.by || looked != c.rows || len(got.chunks) != c.chunks {
					t.Errorf("%s: by index %q, %d rows in %d chunks", c.where, spec.Fixed.By, looked, len(got.chunks))
				}
				want := len(r.texts("SELECT id FROM item WHERE " + c.where))
				slices.Sort(got.keys)
				if len(got.rows) != want || len(slices.Compact(got.keys)) != want {
					t.Errorf("%s: %d rows and %d keys, want %d", c.where, len(got.rows), len(got.keys), want)
				}
			}
		})
	}
}

// TestTimeStandsStillInConditions: NOW() is that of the plan, also where the walk
// goes on a day later.
func TestTimeStandsStillInConditions(t *testing.T) {
	r := newItems(t, flavors[0], 5)
	r.exec("ALTER TABLE item ADD at DATETIME", "UPDATE item SET at = UTC_TIMESTAMP() - INTERVAL id HOUR")
	src, err := table.Open(r.deps, table.Spec{DB: r.db, Table: "item", Where: "at > NOW() - INTERVAL 150 MINUTE"})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := src.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var spec table.Spec
	if err := json.Unmarshal(plan.Fixed, &spec); err != nil {
		t.Fatal(err)
	}
	for hours, rows := range []int{3, 4, 5} {
		spec.Fixed.Now -= int64(min(hours, 1)) * 3600
		src, err := table.Open(r.deps, spec)
		if err != nil {
			t.Fatal(err)
		}
		got := &seen{}
		if err := src.Read(t.Context(), "", func(_ context.Context, c replay.Chunk) error { got.take(t, r.deps.Schema, c); return nil }); err != nil {
			t.Fatal(err)
		}
		if len(got.rows) != rows {
			t.Errorf("%d hours before, %d rows are newer than 150 minutes, want %d", hours, len(got.rows), rows)
		}
	}
}

// TestSlowConditionsMakeSmallChunks: no chunk runs into the time limit of a session.
func TestSlowConditionsMakeSmallChunks(t *testing.T) {
	r := newItems(t, flavors[0], 30)
	got := r.walk(table.Spec{Table: "item", Where: "SLEEP(IF(id < 20, 0.11, 0)) = 0"})
	if len(got.rows) != 30 || len(got.chunks) != 1 {
		t.Fatalf("%d rows in %d chunks", len(got.rows), len(got.chunks))
	}
	r.exec("INSERT INTO item SELECT id + 30, category, title FROM item")
	got = r.walk(table.Spec{Table: "item", Chunk: 20, Where: "SLEEP(IF(id < 20, 0.11, 0)) = 0"})
	if sizes := []int64{20, 10, 20, 10}; len(got.rows) != 60 || !slices.EqualFunc(got.chunks, sizes, func(c replay.Chunk, n int64) bool { return c.Rows == n }) {
		t.Errorf("%d rows in %d chunks", len(got.rows), len(got.chunks))
	}
}
