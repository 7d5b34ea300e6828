package pipeline

import (
	"fmt"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
)

// benchRows are rows as a list rule needs them: an id, a category, a price and
// a name, before and after.
func benchRows(n int) TableRows {
	t := TableRows{DB: "shop", Table: "item", Columns: []string{"id", "category", "price", "name"}}
	image := func(i int) []keys.Value {
		return []keys.Value{
			{Kind: keys.Number, Text: fmt.Sprint(1_000_000 + i)},
			{Kind: keys.Number, Text: fmt.Sprint(i % 97)},
			{Kind: keys.Number, Text: fmt.Sprintf("%d.90", i)},
			{Kind: keys.Text, Text: fmt.Sprintf("a thing number %d", i)},
		}
	}
	for i := range n {
		t.Rows = append(t.Rows, Row{Before: image(i), After: image(i + 1)})
	}
	return t
}

func encodeRows(b testing.TB, t TableRows) []byte {
	var w eventWriter
	w.begin(&Event{Kind: KindChanges, Source: "shop", GTID: "3e11fa47-71ca-11e1-9e33-c80aa9429562:23", CommittedAt: time.UnixMicro(1_700_000_000_000_000), Schema: "0123456789abcdef"})
	for _, r := range t.Rows {
		if err := w.add(&t, r); err != nil {
			b.Fatal(err)
		}
	}
	return w.end()
}

var benchSizes = []int{1, 100}

func BenchmarkEncode(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			t := benchRows(n)
			b.ReportAllocs()
			for b.Loop() {
				encodeRows(b, t)
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			data := encodeRows(b, benchRows(n))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeEvent(data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
