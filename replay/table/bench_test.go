package table_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/table"
)

// BenchmarkWalk prints how many rows of a MySQL table are read and made into events
// in a second, the server's work on the same machine included. The key columns are
// an integer and a text, the rows have 200 bytes more.
func BenchmarkWalk(b *testing.B) {
	const rows = 200_000
	r := newRig(b, flavors[0], `{name: item, table: "%s.item", key: "item:{id}:{sku}"}`)
	r.exec("CREATE TABLE item (id BIGINT UNSIGNED PRIMARY KEY, sku VARCHAR(40) NOT NULL, filler CHAR(200) NOT NULL)")
	for from := 0; from < rows; from += 10_000 {
		r.exec("INSERT INTO item VALUES " + strings.Join(numbers(10_000, "(%d, 'sku-%[1]d', REPEAT('x', 200))", from), ", "))
	}
	r.exec("ANALYZE TABLE item")
	for _, where := range []string{"", "id % 10 = 0"} {
		b.Run(fmt.Sprintf("where=%t", where != ""), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				src, err := table.Open(r.deps, table.Spec{DB: r.db, Table: "item", Where: where})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := src.Plan(b.Context()); err != nil {
					b.Fatal(err)
				}
				got := int64(0)
				err = src.Read(b.Context(), "", func(_ context.Context, c replay.Chunk) error {
					got += c.Rows
					return nil
				})
				if err != nil || got != rows {
					b.Fatalf("%d rows: %v", got, err)
				}
			}
			b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkRows prints how many rows are looked up by their keys in a second.
func BenchmarkRows(b *testing.B) {
	const rows = 20_000
	r := newRig(b, flavors[0], `{name: item, table: "%s.item", key: "item:{id}:{sku}"}`)
	r.exec("CREATE TABLE item (id BIGINT UNSIGNED PRIMARY KEY, sku VARCHAR(40) NOT NULL)",
		"INSERT INTO item VALUES "+strings.Join(numbers(rows, "(%d, 'sku-%[1]d')", 0), ", "))
	spec := table.RowsSpec{DB: r.db, Table: "item", File: keyFile(b, numbers(rows, "%d", 0)...)}
	for b.Loop() {
		src, err := table.OpenRows(r.deps, spec)
		if err != nil {
			b.Fatal(err)
		}
		if got := r.replay(src); len(got.rows) != rows {
			b.Fatalf("%d rows", len(got.rows))
		}
	}
	b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
