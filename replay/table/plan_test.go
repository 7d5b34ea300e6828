package table_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/table"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

const itemRule = `{name: item, table: "%s.item", key: "item:{id}"}`

// newItems is a table of n items in five categories.
func newItems(t testing.TB, f flavor, n int, rules ...string) *rig {
	r := newRig(t, f, append([]string{itemRule}, rules...)...)
	r.exec("CREATE TABLE item (id INT PRIMARY KEY, category INT NOT NULL, title VARCHAR(50) CHARACTER SET latin1)",
		"INSERT INTO item VALUES "+strings.Join(numbers(n, "(%d, %[1]d MOD 5, NULL)", 0), ", "))
	return r
}

func (r *rig) planError(spec table.Spec) error {
	r.t.Helper()
	if spec.DB == "" {
		spec.DB = r.db
	}
	src, err := table.Open(r.deps, spec)
	if err != nil {
		return err
	}
	_, err = src.Plan(r.t.Context())
	return err
}

func TestWhatCannotBeWalkedIsRefused(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t, f, `{name: a, table: "%s.t_*", key: "a:{k}"}`, `{name: b, table: "%s.f_*", key: "b:{d}"}`, `{name: c, table: "%s.g_*", key: "c:{lost}"}`)
			r.exec("CREATE TABLE t_none (k INT, l INT, KEY (k))", "CREATE TABLE t_null (k INT UNIQUE)", "CREATE TABLE t_prefix (k VARCHAR(50), PRIMARY KEY (k(10)))",
				"CREATE TABLE t_float (k FLOAT PRIMARY KEY)", "CREATE TABLE t_good (k INT PRIMARY KEY)", "CREATE VIEW t_view AS SELECT k FROM t_good",
				"CREATE TABLE f_double (k INT PRIMARY KEY, d DOUBLE)", "CREATE TABLE g_lost (k INT PRIMARY KEY, last INT)", "CREATE TABLE other (k INT PRIMARY KEY)")
			for _, c := range []struct {
				table string
				parts []string
			}{
				{"t_none", []string{"no primary key", "-whole"}},
				{"t_null", []string{`key k has column "k", which may be NULL`, "-whole"}},
				{"t_prefix", []string{`key PRIMARY has only the beginning of column "k"`}},
				{"t_float", []string{"of type FLOAT", "-whole"}},
				{"t_view", []string{"is a view", "name the tables"}},
				{"t_goot", []string{"does not exist", `did you mean "t_good"`}},
				{"T_GOOD", []string{"letter by letter"}},
				{"f_double", []string{"DOUBLE", "-whole"}},
				{"g_lost", []string{`column "lost" does not exist`, `did you mean "last"`, "-whole"}},
				{"other", []string{"no rule of the key schema"}},
			} {
				err := r.planError(table.Spec{Table: c.table})
				expectErr(t, err, append(c.parts, c.table)...)
				if !errors.Is(err, pipeline.ErrFatal) {
					t.Errorf("%v can be mended by trying again?", err)
				}
			}
		})
	}
}

func TestPlanSaysWhatAWalkDoesNotFind(t *testing.T) {
	r := newItems(t, flavors[0], 50, `{name: list, table: "%s.item", key: "list:{category}"}`, `{name: sale, table: "%s.item", key: "sale:{id}", when: "category = 1"}`)
	got := r.walk(table.Spec{Table: "item", Where: "id > 1"})
	text := strings.Join(append(got.plan.What, got.plan.Warnings...), "\n")
	for _, want := range []string{"PRIMARY (id)", "id, category", "(id > 1)", "no longer exist", "rule list", "former values", "Rule sale has a condition", "-whole", "-old-keys"} {
		if !strings.Contains(text, want) {
			t.Errorf("the plan does not say %q:\n%s", want, text)
		}
	}
	if got.plan.Rows < 25 || got.plan.Rows > 100 {
		t.Errorf("the plan has %d rows, the table 50", got.plan.Rows)
	}
}

func TestWholeTable(t *testing.T) {
	r := newItems(t, flavors[0], 5)
	got := r.walk(table.Spec{Table: "item", Whole: true})
	if want := pipeline.TableScope(r.db, "item"); len(got.chunks) != 1 || len(got.rows) > 0 || !slices.Equal(got.scopes, []pipeline.Scope{want}) {
		t.Errorf("%d chunks, stale: %v", len(got.chunks), got.scopes)
	}
	if !strings.Contains(strings.Join(got.plan.What, ""), "item:*") {
		t.Errorf("the plan: %q", got.plan.What)
	}
	expectErr(t, r.planError(table.Spec{Table: "item", Whole: true, Where: "id = 1"}), "-whole")
}

// TestEndsAreFixed: the ends are fixed by the plan, so rows that come later belong to
// the live pipeline.
func TestEndsAreFixed(t *testing.T) {
	r := newItems(t, flavors[0], 20)
	src, err := table.Open(r.deps, table.Spec{DB: r.db, Table: "item", Chunk: 6})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Plan(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.exec("INSERT INTO item VALUES (1000, 1, NULL)")
	got := &seen{}
	r.broken = 2
	err = src.Read(t.Context(), "", func(_ context.Context, c replay.Chunk) error { got.take(t, r.deps.Schema, c); return nil })
	if err != nil || r.broken > 0 {
		t.Fatal(err, r.broken)
	}
	if !slices.Equal(got.keys, wholeItems(20)) {
		t.Errorf("walked: %v", got.keys)
	}
	done := []float64{5. / 19, 11. / 19, 17. / 19, 1}
	for i, c := range got.chunks {
		if c.Done != done[i] {
			t.Errorf("chunk %d: %f done, want %f", i, c.Done, done[i])
		}
		if set := mustParse(t, c.Events[0].GTID); set.Empty() || !r.view().Written.HasAll(set) {
			t.Errorf("chunk %d has the set %q", i, c.Events[0].GTID)
		}
	}
	r.exec("DELETE FROM item")
	if got := r.walk(table.Spec{Table: "item"}); len(got.chunks) > 0 || got.plan.Rows != 0 {
		t.Errorf("an empty table: %d chunks, %d rows", len(got.chunks), got.plan.Rows)
	}
}

// TestConditionsThatAskForAChange: the rows of a walk have not been changed, and
// their keys are made all the same.
func TestConditionsThatAskForAChange(t *testing.T) {
	r := newItems(t, flavors[0], 3, `{name: op, table: "%s.item", key: "op:{id}", when: "op != 'insert'"}`, `{name: diff, table: "%s.item", key: "diff:{category}:{title}", "null": skip, when: "op = 'update' AND before.category != after.category"}`)
	r.exec("UPDATE item SET title = 'a' WHERE id = 1")
	got := r.walk(table.Spec{Table: "item"})
	want := []string{"op:0", "op:1", "op:2", "diff:1:a", "item:0", "item:1", "item:2"}
	slices.Sort(want)
	slices.Sort(got.keys)
	if !slices.Equal(got.keys, want) {
		t.Errorf("keys %q, want %q", got.keys, want)
	}
}

// TestUncertainTextSweepsTheTable: what the server cannot turn into UTF-8 makes no
// guessed key.
func TestUncertainTextSweepsTheTable(t *testing.T) {
	for _, f := range flavors {
		r := newRig(t, f, `{name: a, table: "%s.t", key: "a:{v}"}`)
		r.exec("CREATE TABLE t (k INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET ucs2)", "INSERT INTO t VALUES (1, 'fine?'), (2, X'D800'), (3, 'x'), (4, X'DC00')")
		got := r.walk(table.Spec{Table: "t", Chunk: 2})
		if !slices.Equal(got.keys, []string{"a:fine%3F", "a:x"}) || len(got.scopes) != 1 || got.scopes[0].Table != "t" {
			t.Errorf("%s: keys %q, stale %v", f.name, got.keys, got.scopes)
		}
	}
}

// TestColumnsOfAnOldSchema: further columns come with the rows.
func TestColumnsOfAnOldSchema(t *testing.T) {
	r := newItems(t, flavors[0], 2)
	r.deps.Columns = func(string, string) []string { return []string{"ID", "title", "dropped"} }
	got := r.walk(table.Spec{Table: "item"})
	if last := got.plan.Warnings[len(got.plan.Warnings)-1]; !strings.Contains(last, "column dropped") {
		t.Errorf("the plan warns: %q", last)
	}
	if tr := got.chunks[0].Events[0].Tables[0]; !slices.Equal(tr.Columns, []string{"id", "title"}) || len(tr.Rows[0].After) != 2 {
		t.Errorf("columns %v, a row %v", tr.Columns, tr.Rows[0])
	}
}

// TestHiddenKeys: MySQL makes an invisible primary key for tables without one, and
// an index may be made invisible to the optimizer.
func TestHiddenKeys(t *testing.T) {
	r := newRig(t, flavors[0], `{name: a, table: "%s.t_*", key: "a:{v}"}`)
	r.exec("SET SESSION sql_generate_invisible_primary_key = ON", "CREATE TABLE t_made (v INT)", "INSERT INTO t_made VALUES (1), (2), (3)",
		"SET SESSION sql_generate_invisible_primary_key = OFF", "CREATE TABLE t_hidden (v INT NOT NULL, w INT NOT NULL, UNIQUE KEY w (w, v), UNIQUE KEY v (v) INVISIBLE)", "INSERT INTO t_hidden VALUES (1, 1)",
		"CREATE TABLE t_other (v INT NOT NULL UNIQUE, f DOUBLE PRIMARY KEY)", "INSERT INTO t_other VALUES (1, 0.1), (2, 0.2)")
	if got := r.walk(table.Spec{Table: "t_other", Chunk: 1}); !slices.Equal(got.keys, []string{"a:1", "a:2"}) {
		t.Errorf("keys %q", got.keys)
	}
	if got := r.walk(table.Spec{Table: "t_made", Chunk: 2}); !slices.Equal(got.keys, []string{"a:1", "a:2", "a:3"}) {
		t.Errorf("keys %q", got.keys)
	}
	if got := r.walk(table.Spec{Table: "t_hidden"}); !strings.Contains(got.plan.What[0], "key w (w, v)") {
		t.Errorf("the plan: %q", got.plan.What)
	}
}

// TestMissingPrivilegesAreToldByThePlan, not by trying for ever.
func TestMissingPrivilegesAreToldByThePlan(t *testing.T) {
	r := newItems(t, flavors[1], 3)
	user := r.db + "_u"
	r.exec("CREATE USER "+user+"@'%' IDENTIFIED BY ''", "GRANT SELECT ON "+r.db+".* TO "+user+"@'%'")
	t.Cleanup(func() { _, _ = envtest.DB(t, r.server).Exec("DROP USER " + user + "@'%'") })
	r.cfg.User = user
	reader := binlog.NewReader(r.cfg, "source", "")
	t.Cleanup(reader.Close)
	r.deps.View = reader.Ask
	expectErr(t, r.planError(table.Spec{Table: "item"}), "GRANT BINLOG MONITOR")
}

// TestLargeValues: a chunk of large values ends early, and nothing is left out.
func TestLargeValues(t *testing.T) {
	r := newRig(t, flavors[0], `{name: a, table: "%s.t", key: "a:{k}:{v|trim}"}`)
	r.exec("CREATE TABLE t (k INT PRIMARY KEY, v LONGTEXT)", "INSERT INTO t VALUES "+strings.Join(numbers(40, "(%d, REPEAT('v', 400000))", 0), ", "))
	got := r.walk(table.Spec{Table: "t"})
	if len(got.rows) != 40 || len(got.chunks) < 2 {
		t.Errorf("%d rows in %d chunks", len(got.rows), len(got.chunks))
	}
}
