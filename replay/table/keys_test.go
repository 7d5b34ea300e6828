package table_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/table"
)

// words are texts that collations order and compare each in its own way.
var words = []string{"a", "A", "ä", "Ä", "ab", "a ", "a'b", `a\\b`, "a?b", "b", "B", "ß", "ss", "é", "e", "E", "z", "", "_", "%", "1", "10", "9", "zz", "Z z"}

// keyCases are keys that a table is walked by. The columns of the key are named k, l, m.
var keyCases = []struct {
	name, columns, key string
	values             []string // of the key columns, as SQL; a row each, duplicates are ignored
}{
	{"int", "k INT", "PRIMARY KEY (k)", numbers(150, "%d", -70)},
	{"bigint unsigned", "k BIGINT UNSIGNED", "PRIMARY KEY (k)", append(numbers(100, "%d", 0), "18446744073709551615", "18446744073709551614", "9223372036854775807", "9223372036854775808")},
	{"decimal", "k DECIMAL(20,4)", "PRIMARY KEY (k)", append(numbers(100, "%d.25", -50), "0", "-0.0001", "9999999999999999.9999")},
	{"year", "k YEAR", "PRIMARY KEY (k)", append(numbers(100, "%d", 1950), "0")},
	{"bit", "k BIT(64)", "PRIMARY KEY (k)", append(numbers(100, "%d", 0), "0xffffffffffffffff", "0x8000000000000000")},
	{"enum", "k ENUM('z','b','a','m','1','c','9'), l INT", "PRIMARY KEY (k, l)", pairs([]string{"'z'", "'b'", "'a'", "'m'", "'1'", "'9'", "'nope'"}, numbers(20, "%d", 0))},
	{"date", "k DATE", "PRIMARY KEY (k)", append(numbers(100, "'2024-01-01' + INTERVAL %d DAY", 0), "'0000-00-00'", "'2024-00-00'")},
	{"datetime", "k DATETIME(3)", "PRIMARY KEY (k)", append(numbers(100, "'2024-01-01 10:00:00.120' + INTERVAL %d SECOND", 0), "'0000-00-00 00:00:00'")},
	{"timestamp", "k TIMESTAMP(6) NOT NULL DEFAULT '2024-01-01 00:00:00'", "PRIMARY KEY (k)", append(numbers(100, "'2024-10-27 00:30:00.000001' + INTERVAL %d MINUTE", 0), "'0000-00-00 00:00:00'")},
	{"time", "k TIME(2)", "PRIMARY KEY (k)", append(numbers(100, "SEC_TO_TIME(%d * 100)", -50), "'-838:59:59'", "'838:59:59'", "'-00:00:00.01'")},
	{"binary", "k BINARY(4)", "PRIMARY KEY (k)", append(numbers(100, "CHAR(%d, 0, 255)", 100), "''", "0x00", "0x0001", "0x2700")},
	{"varbinary", "k VARBINARY(40)", "PRIMARY KEY (k)", append(numbers(100, "CHAR(%d, 39)", 100), "''", "0x00", "0x5c27", "0x5c")},
	{"two", "k INT, l VARCHAR(20)", "PRIMARY KEY (k, l)", pairs(numbers(6, "%d", 0), quotedWords(""))},
	{"three", "k INT, l DATE, m INT", "PRIMARY KEY (k, l, m)", pairs(pairs(numbers(4, "%d", 0), []string{"'2024-01-01'", "'2024-01-02'"}), numbers(20, "%d", 0))},
	{"another order", "l INT, k INT", "PRIMARY KEY (k, l)", pairs(numbers(20, "%d", 0), numbers(5, "%d", 0))},
	{"unique", "k INT NOT NULL, l INT NOT NULL, m INT", "UNIQUE KEY u (m), UNIQUE KEY `w``x` (l, k)", triples(100)},
	{"generated", "k INT NOT NULL, l INT AS (k * -2) STORED NOT NULL, m INT", "UNIQUE KEY (l)", nil},
	{"partitions", "k INT, l INT", "PRIMARY KEY (k, l)) PARTITION BY HASH (l) PARTITIONS 5 -- (", pairs(numbers(20, "%d", 0), numbers(7, "%d", 0))},
	{"ranges", "k INT, l INT", "PRIMARY KEY (k, l)) PARTITION BY RANGE (k) (PARTITION a VALUES LESS THAN (7), PARTITION b VALUES LESS THAN MAXVALUE) -- (", pairs(numbers(20, "%d", 0), numbers(7, "%d", 0))},
	{"descending", "k INT, l INT", "PRIMARY KEY (k DESC, l)", pairs(numbers(20, "%d", 0), numbers(7, "%d", 0))},
	{"latin1", "k VARCHAR(20) CHARACTER SET latin1", "PRIMARY KEY (k)", quotedWords("é€")},
	{"latin1_german2_ci", "k VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_german2_ci", "PRIMARY KEY (k)", quotedWords("")},
	{"utf8mb4_bin", "k VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "PRIMARY KEY (k)", quotedWords("😀")},
	{"utf8mb4_general_ci", "k VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", "PRIMARY KEY (k)", quotedWords("😀")},
	{"utf8mb4_unicode_ci", "k CHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci", "PRIMARY KEY (k)", quotedWords("😀")},
	{"utf8mb3_general_ci", "k VARCHAR(20) CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci", "PRIMARY KEY (k)", quotedWords("日本")},
	{"ascii", "k CHAR(20) CHARACTER SET ascii", "PRIMARY KEY (k)", numbers(100, "HEX(%d * 7919)", 1)},
	{"gbk", "k VARCHAR(20) CHARACTER SET gbk", "PRIMARY KEY (k)", quotedWords("中文")},
	{"cp932", "k VARCHAR(20) CHARACTER SET cp932", "PRIMARY KEY (k)", append(quotedWords("日本"), "_cp932 0x8790", "_cp932 0x81e0", "_cp932 0xfa40")},
	{"utf16", "k VARCHAR(20) CHARACTER SET utf16", "PRIMARY KEY (k)", quotedWords("😀")},
	{"default collation", "k VARCHAR(20) CHARACTER SET utf8mb4", "PRIMARY KEY (k)", quotedWords("😀")},
}

func numbers(n int, format string, from int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf(format, from+i))
	}
	return out
}

func pairs(a, b []string) (out []string) {
	for _, x := range a {
		for _, y := range b {
			out = append(out, x+", "+y)
		}
	}
	return out
}

func triples(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%d, %d, NULL", i*7%n, i/3))
	}
	return out
}

func quotedWords(more string) (out []string) {
	for _, w := range words {
		out = append(out, "'"+strings.ReplaceAll(w, "'", "''")+"'")
	}
	for _, c := range more {
		out = append(out, "'"+string(c)+"'", "'a"+string(c)+"'")
	}
	for i := range 40 {
		out = append(out, fmt.Sprintf("'w%d'", i))
	}
	return out
}

// TestWalkByEveryKey walks in small chunks, and looks at what the server does for
// each: the rows come once each, in the order of the key, by its index, without
// sorting, and no more rows are read than a chunk has.
func TestWalkByEveryKey(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t, f, `{name: every, table: "%s.t_*", key: "every:{k}:{l}:{m}", "null": "!null"}`)
			for i, c := range keyCases {
				if c.name == "generated" && f.name == "mariadb" {
					continue // its generated columns cannot be NOT NULL
				}
				t.Run(c.name, func(t *testing.T) { walkByKey(t, r, i) })
			}
		})
	}
}

const smallChunk = 9

func walkByKey(t *testing.T, r *rig, i int) {
	c, name := keyCases[i], fmt.Sprintf("t_%d", i)
	columns, values := []string{"k", "l", "m"}, c.values
	extra := ""
	for _, col := range columns {
		if !strings.Contains(" "+c.columns, " "+col+" ") {
			extra += ", " + col + " INT"
		}
	}
	insert := "INSERT IGNORE INTO " + name + " (" + strings.Join(columns[:strings.Count(values0(values), ",")+1], ", ") + ") VALUES "
	switch c.name {
	case "another order":
		insert = "INSERT IGNORE INTO " + name + " (k, l) VALUES "
	case "generated":
		insert, values = "INSERT IGNORE INTO "+name+" (k) VALUES ", numbers(60, "%d", 0)
	case "time", "varbinary", "binary":
		insert = "INSERT IGNORE INTO " + name + " (k) VALUES "
	}
	r.exec("DROP TABLE IF EXISTS "+name, "CREATE TABLE "+name+" ("+c.columns+extra+", filler VARCHAR(200), "+c.key+")",
		insert+"("+strings.Join(values, "), (")+")", "ANALYZE TABLE "+name)
	rows := len(r.texts("SELECT 1 FROM " + name))
	if rows < 40 {
		t.Fatalf("only %d rows", rows)
	}
	r.statements = nil
	got := r.walk(table.Spec{Table: name, Chunk: smallChunk})
	if got.plan.Rows < 1 {
		t.Errorf("the plan speaks of %d rows", got.plan.Rows)
	}
	if len(got.rows) != rows || len(got.chunks) != (rows+smallChunk-1)/smallChunk {
		t.Errorf("%d rows in %d chunks were walked, the table has %d", len(got.rows), len(got.chunks), rows)
	}
	unique := slices.Clone(got.keys)
	slices.Sort(unique)
	if c.name == "cp932" {
		rows-- // two of its codes are one character: two rows, one key
	}
	if unique = slices.Compact(unique); len(unique) != rows || len(got.scopes) > 0 {
		t.Errorf("%d different keys for %d rows; stale: %v", len(unique), rows, got.scopes)
	}
	// Going on in the middle, from what a state file would hold.
	var spec table.Spec
	decode(t, replay.Cursor(got.plan.Fixed), &spec)
	src, err := table.Open(r.deps, spec)
	if err != nil {
		t.Fatal(err)
	}
	middle, rest := len(got.chunks)/2, &seen{}
	err = src.Read(t.Context(), got.chunks[middle].Next, func(_ context.Context, c replay.Chunk) error { rest.take(t, r.deps.Schema, c); return nil })
	if err != nil || !slices.Equal(rest.keys, got.keys[(middle+1)*smallChunk:]) {
		t.Errorf("behind chunk %d there are %d keys, %v; the whole has %d", middle, len(rest.keys), err, len(got.keys))
	}
	for _, n := range []int{0, 1, middle, len(got.chunks) - 1} {
		if !t.Failed() { // the others fail as well
			lookAt(t, r, r.statements[n], n == 0)
		}
	}
}

func values0(v []string) string {
	if len(v) == 0 {
		return ""
	}
	return v[0]
}

// lookAt checks how the server runs the statement of a chunk.
func lookAt(t *testing.T, r *rig, sql string, first bool) {
	t.Helper()
	explain := "EXPLAIN "
	if r.flavor == "mysql" { // whose newest versions have another default
		explain = "EXPLAIN FORMAT=TRADITIONAL "
	}
	res, err := r.conn.Execute(explain + sql)
	if err != nil {
		t.Fatal(err)
	}
	how, _ := res.GetStringByName(0, "type")
	key, _ := res.GetStringByName(0, "key")
	extra, _ := res.GetStringByName(0, "Extra")
	if strings.HasPrefix(extra, "Impossible WHERE") || strings.HasPrefix(extra, "no matching row") {
		return // the server knows that nothing is left
	}
	if strings.Contains(sql, "`k` > 0 OR (`k` = 0") && strings.Contains(sql, "`k` + 0") {
		return // an ENUM that holds no member: correct, but not by the index
	}
	if how != "range" && (how != "index" || !first) || key == "" || strings.Contains(extra, "filesort") {
		t.Errorf("%s: access %q by key %q, %s", sql, how, key, extra)
	}
	r.exec("FLUSH STATUS", sql)
	read := 0
	for _, row := range r.texts("SHOW SESSION STATUS LIKE 'Handler_read%'") {
		n, _ := strconv.Atoi(row[1])
		read += n
	}
	// An index over partitions looks at the first rows of each.
	if limit := smallChunk + 15; read > limit {
		t.Errorf("%s: %d rows were read for a chunk of %d", sql, read, smallChunk)
	}
}
