package table_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/table"
)

func keyFile(t testing.TB, lines ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (r *rig) given(spec table.RowsSpec) *seen {
	r.t.Helper()
	spec.DB = r.db
	src, err := table.OpenRows(r.deps, spec)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.replay(src)
}

func TestRowsByTheirKeys(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t, f,
				`{name: item, table: "%s.item", key: "item:{id}"}`,
				`{name: list, table: "%s.item", key: "list:{category}"}`,
				`{name: user, table: "%s.user", key: "user:{name}:{region}"}`,
				`{name: blob, table: "%s.binaries", key: "b:{k}"}`)
			r.exec("CREATE TABLE item (id BIGINT UNSIGNED PRIMARY KEY, category VARCHAR(20))",
				"INSERT INTO item VALUES (1, 'tea'), (2, 'café'), (18446744073709551615, NULL)",
				"CREATE TABLE user (region INT, name VARCHAR(20) CHARACTER SET latin1, PRIMARY KEY (region, name))",
				"INSERT INTO user VALUES (1, 'Ann'), (1, 'Zoë'), (2, 'a,b')",
				"CREATE TABLE binaries (k BINARY(3) PRIMARY KEY)", "INSERT INTO binaries VALUES (0x010000), ('abc')")
			for _, c := range []struct {
				name, table string
				lines       []string
				keys        []string
				gone        int64
			}{
				{"one column", "item", []string{"id", "1", "", " 02\r", "[18446744073709551615]", `["1"]`}, []string{"item:1", "list:tea", "item:2", "list:café", "item:18446744073709551615", "item:1", "list:tea"}, 0},
				{"gone", "item", []string{"7", "1", "+8"}, []string{"item:1", "list:tea", "item:7", "item:8"}, 2},
				{"two columns", "user", []string{"region,name", "1,ANN", "1\tZoë", `2,"a,b"`, `[2, "a,b"]`, `[3, "日本"]`}, []string{"user:Ann:1", "user:Zoë:1", "user:a%2Cb:2", "user:a%2Cb:2", "user:日本:3"}, 0},
				{"binary", "binaries", []string{"01", "0x616263", "ff00"}, []string{"b:010000", "b:616263", "b:ff0000"}, 0},
			} {
				t.Run(c.name, func(t *testing.T) {
					got := r.given(table.RowsSpec{Table: c.table, File: keyFile(t, c.lines...)})
					if !slices.Equal(got.keys, c.keys) || got.doubts > 0 {
						t.Errorf("keys %q, %d doubts, want %q", got.keys, got.doubts, c.keys)
					}
					last := got.chunks[len(got.chunks)-1]
					if gone := table.Gone(last.Next); gone != c.gone || last.Done != 1 {
						t.Errorf("%d rows are gone, %f done; want %d, and all", gone, last.Done, c.gone)
					}
				})
			}
		})
	}
}

func TestRowsInManyChunks(t *testing.T) {
	r := newRig(t, flavors[0], `{name: item, table: "%s.item", key: "item:{id}"}`)
	r.exec("CREATE TABLE item (id INT PRIMARY KEY)", "INSERT INTO item VALUES "+strings.Join(numbers(2500, "(%d)", 0), ", "))
	file := keyFile(t, numbers(2600, "%d", 0)...)
	src, err := table.OpenRows(r.deps, table.RowsSpec{DB: r.db, Table: "item", File: file})
	if err != nil {
		t.Fatal(err)
	}
	all := r.replay(src)
	if all.plan.Rows != 2600 || len(missing(wholeItems(2600), all.keys)) > 0 || len(all.chunks) != 3 {
		t.Fatalf("the plan has %d rows, %d chunks came; missing: %v", all.plan.Rows, len(all.chunks), missing(wholeItems(2600), all.keys))
	}
	r.broken = 1
	rest := &seen{}
	if err := src.Read(t.Context(), all.chunks[0].Next, func(_ context.Context, c replay.Chunk) error { rest.take(t, r.deps.Schema, c); return nil }); err != nil {
		t.Fatal(err)
	}
	if r.broken != 0 {
		t.Error("no session was broken")
	}
	if len(rest.keys) != 1600 || rest.keys[0] != "item:1000" {
		t.Errorf("behind the first chunk are %d keys from %s on", len(rest.keys), rest.keys[0])
	}
}

func wholeItems(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("item:%d", i))
	}
	return all
}

func TestBadLinesAreNamed(t *testing.T) {
	r := newRig(t, flavors[0], `{name: a, table: "%s.t_*", key: "a:{k}"}`)
	r.exec("CREATE TABLE t_int (k INT PRIMARY KEY)", "CREATE TABLE t_two (k INT, l DATETIME(3), PRIMARY KEY (k, l))", "CREATE TABLE t_dec (k DECIMAL(5,2) PRIMARY KEY)",
		"CREATE TABLE t_bin (k VARBINARY(9) PRIMARY KEY)")
	for _, c := range []struct{ table, line, want string }{
		{"t_int", "1 OR 1", `"1 OR 1" is not an integer`},
		{"t_int", "NULL", `"NULL" is not an integer`},
		{"t_int", "[1", "no JSON array"},
		{"t_int", "[null]", "neither a text nor a number"},
		{"t_int", "[1, 2]", "2 values, the key has 1"},
		{"t_int", "\xff", "not UTF-8"},
		{"t_two", "1", "1 values, the key has 2"},
		{"t_two", "1,yesterday", "not a time such as"},
		{"t_two", "1,2026-01-01 00:00:00.1234", "more digits"},
		{"t_two", `1,"2026`, "quotes"},
		{"t_dec", "1.234", "at most 2 digits"},
		{"t_bin", "hello", "hex"},
	} {
		src, err := table.OpenRows(r.deps, table.RowsSpec{DB: r.db, Table: c.table, File: keyFile(t, "k", c.line)})
		if err != nil {
			t.Fatal(err)
		}
		if c.table == "t_two" { // its header has two columns
			src, _ = table.OpenRows(r.deps, table.RowsSpec{DB: r.db, Table: c.table, File: keyFile(t, "", c.line)})
		}
		_, err = src.Plan(t.Context())
		expectErr(t, err, "line 2", c.want)
	}
}
