package table_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay/table"
)

// typeCases are column types that keys or conditions may use, with values as SQL.
var typeCases = []struct{ ddl, values string }{
	{"TINYINT", "-128|127|0"},
	{"SMALLINT UNSIGNED ZEROFILL", "65535|7|0"},
	{"MEDIUMINT", "-8388608|8388607"},
	{"INT UNSIGNED", "4294967295|0"},
	{"BIGINT", "-9223372036854775808|9223372036854775807"},
	{"BIGINT UNSIGNED", "18446744073709551615|9223372036854775808"},
	{"YEAR", "1901|2155|0|2024"},
	{"DECIMAL(10,3)", "1.5|-1.5|0|-0.001|9999999.999"},
	{"DECIMAL(12,2) ZEROFILL", "1.5|0|0.05|1234567890.12"},
	{"DECIMAL(20,0)", "12345678901234567890|-1"},
	{"DECIMAL(9,9)", "0.123456789|-0.5|0|-0"},
	{"DECIMAL(65,30)", "12345678901234567890123456789012345.123456789012345678901234567891|-0.000000000000000000000000000001"},
	{"BIT(1)", "b'1'|b'0'"},
	{"BIT(10)", "b'1111111111'|b'1'"},
	{"BIT(64)", "0xffffffffffffffff|0x8000000000000000"},
	{"DATE", "'2024-02-29'|'0000-00-00'|'2024-00-00'|'9999-12-31'"},
	{"TIME", "'01:02:03'|'-838:59:59'|'838:59:59'|'00:00:00'|'-00:00:01'"},
	{"TIME(3)", "'01:02:03'|'01:02:03.004'|'-00:00:00.001'"},
	{"TIME(6)", "'-838:59:58.999999'|'-00:00:01'"},
	{"DATETIME", "'2024-05-06 07:08:09'|'0000-00-00 00:00:00'|'1000-01-01 00:00:00'"},
	{"DATETIME(2)", "'2024-05-06 07:08:09.1'|'0000-00-00 00:00:00'"},
	{"DATETIME(6)", "'2024-05-06 07:08:09.000001'|'2024-05-06 07:08:09'"},
	{"TIMESTAMP NULL", "'2024-05-06 07:08:09'|'1970-01-01 00:00:01'|'2038-01-19 03:14:07'|'0000-00-00 00:00:00'"},
	{"TIMESTAMP(4) NULL", "'2024-05-06 07:08:09.1'|'2024-10-27 01:30:00'"},
	{"CHAR(5)", "'ab '|''|'äöü'|'日本語'"},
	{"VARCHAR(300)", "'ab  '|REPEAT('x', 300)|'😀'|'?'|'a''b\\\\'"},
	{"VARCHAR(20) CHARACTER SET latin1", "'é€'|'abc'"},
	{"CHAR(3) CHARACTER SET latin1 COLLATE latin1_bin", "'é'"},
	{"VARCHAR(20) CHARACTER SET gbk", "'中文'|'a?'"},
	{"VARCHAR(20) CHARACTER SET utf16", "'a😀'|''"},
	{"CHAR(4) CHARACTER SET utf16", "'ab'"},
	{"VARCHAR(20) CHARACTER SET utf32", "'a😀'"},
	{"VARCHAR(20) CHARACTER SET ucs2", "'aé'"},
	{"VARCHAR(20) CHARACTER SET utf8mb3", "'aé'"},
	{"VARCHAR(20) CHARACTER SET ascii", "'a'"},
	{"VARCHAR(20) CHARACTER SET cp932", "'日本'"},
	{"VARCHAR(20) CHARACTER SET koi8r", "'Привет'"},
	{"TEXT", "'long text'|REPEAT('y', 3000)"},
	{"MEDIUMTEXT CHARACTER SET latin1", "'é'"},
	{"BINARY(16)", "0x00112233445566778899aabbccddeeff|0x1100|''"},
	{"VARBINARY(300)", "0x0011|''|0x1100"},
	{"BLOB", "0x00ff|''"},
	{"TINYBLOB", "0x00ff"},
	{"ENUM('a','b,c','d''e','ü')", "'a'|'b,c'|4|'nope'"},
	{"ENUM('x','é') CHARACTER SET latin1", "2|1"},
	{"SET('a','b','ü','d')", "'a,ü'|''|'a,b,ü,d'"},
}

// whenCases may be used in conditions only.
var whenCases = []struct{ ddl, values string }{
	{"FLOAT", "1.5|3e20|-0.1|16777216|0"},
	{"DOUBLE", "1e300|-0.1|1e-5|123456789.125"},
}

// TestWalkSeesWhatTheBinlogSees compares every value of every type with that of
// the row image of the same row.
func TestWalkSeesWhatTheBinlogSees(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			var names, defs []string
			var values [][]string
			for i, c := range append(append(typeCases[:0:0], typeCases...), whenCases...) {
				names = append(names, fmt.Sprintf("c%d", i))
				defs = append(defs, names[i]+" "+c.ddl)
				values = append(values, strings.Split(c.values, "|"))
			}
			n := len(typeCases)
			r := newRig(t, f, fmt.Sprintf(`{name: every, table: "%%s.every", key: "every:{id}:{%s}", "null": "!null", columns: [%s]}`,
				strings.Join(names[:n], "}:{"), strings.Join(names[n:], ", ")))
			r.exec("CREATE TABLE every (id INT PRIMARY KEY, " + strings.Join(defs, ", ") + ") CHARACTER SET utf8mb4")
			before := r.view().Shown
			rng := rand.New(rand.NewPCG(3, 4))
			for id := range 40 {
				row := []string{fmt.Sprint(id)}
				for _, v := range values {
					if id < len(v) {
						row = append(row, v[id])
					} else {
						row = append(row, append(v, "NULL")[rng.IntN(len(v)+1)])
					}
				}
				r.exec("INSERT INTO every VALUES (" + strings.Join(row, ", ") + ")")
			}
			var want []pipeline.Row
			var columns []string
			_ = r.follow(before.String(), r.view().Written, func(_ context.Context, b pipeline.Batch) error {
				for _, tr := range b.Tables {
					columns = tr.Columns
					for _, row := range tr.Rows {
						want = append(want, pipeline.Row{After: append([]keys.Value(nil), row.After...)})
					}
				}
				if len(b.Invalidate) > 0 {
					t.Errorf("the binlog side is in doubt: %s", b.Reason)
				}
				return nil
			})
			got := r.walk(table.Spec{Table: "every", Chunk: 7})
			if len(got.rows) != len(want) || len(want) != 40 || len(got.scopes) > 0 {
				t.Fatalf("%d rows were walked, the binlog has %d; stale: %v", len(got.rows), len(want), got.scopes)
			}
			for i := range want {
				for j, v := range want[i].After {
					if got.rows[i].After[j] != v {
						t.Errorf("row %d, %s %s: walked %v, the binlog has %v", i, columns[j], defs[max(j-1, 0)], got.rows[i].After[j], v)
					}
				}
			}
		})
	}
}
