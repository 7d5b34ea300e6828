package keys_test

import (
	"testing"

	"github.com/doubletap-cdc/doubletap/keys"
)

func benchTable(b *testing.B, rules string) *keys.Binding {
	b.Helper()
	s, err := keys.Parse("bench.yaml", []byte("version: 1\nkeys:\n"+rules))
	if err != nil {
		b.Fatal(err)
	}
	return s.Table("shop", "item").Bind([]string{"id", "category", "price", "status"})
}

func benchRow(id, category, status string) []keys.Value {
	return []keys.Value{{Kind: keys.Number, Text: id}, {Kind: keys.Text, Text: category}, {Kind: keys.Number, Text: "9.50"}, {Kind: keys.Text, Text: status}}
}

func benchAppend(b *testing.B, rules string, before, after []keys.Value) {
	b.Helper()
	binding := benchTable(b, rules)
	var r keys.Result
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		binding.Append(&r, before, after)
	}
	if len(r.Doubts)+r.WhenErrors > 0 {
		b.Fatalf("%+v", r)
	}
}

const benchItem = "  - {name: item, table: shop.item, key: \"item:{id}\"}\n"

func BenchmarkAppendInsert(b *testing.B) {
	benchAppend(b, benchItem, nil, benchRow("1234567", "books", "on_sale"))
}

func BenchmarkAppendUpdate(b *testing.B) {
	benchAppend(b, benchItem, benchRow("1234567", "books", "on_sale"), benchRow("1234567", "books", "off"))
}

func BenchmarkAppendTwoRulesEscaped(b *testing.B) {
	benchAppend(b, benchItem+"  - {name: cat, table: shop.item, key: \"category:{category|lower}:items\"}\n",
		benchRow("1234567", "Garden & Home", "x"), benchRow("1234567", "Toys", "x"))
}

func BenchmarkAppendWhen(b *testing.B) {
	benchAppend(b, "  - {name: sale, table: shop.item, key: \"sale:{id}\", when: \"status = 'on_sale' and price > 5\"}\n",
		nil, benchRow("1234567", "books", "on_sale"))
}

func BenchmarkAppendUnchangedColumns(b *testing.B) {
	benchAppend(b, "  - {name: price, table: shop.item, key: \"price:{id}\", columns: [price], when: \"status = 'on_sale'\"}\n",
		benchRow("1234567", "books", "on_sale"), benchRow("1234567", "toys", "on_sale"))
}

func BenchmarkKey(b *testing.B) {
	s, err := keys.Parse("bench.yaml", []byte("version: 1\nkeys:\n"+benchItem))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Key("item", 1234567); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTable(b *testing.B) {
	s, err := keys.Parse("bench.yaml", []byte("version: 1\nkeys:\n"+benchItem))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Table("shop", "item")
	}
}
