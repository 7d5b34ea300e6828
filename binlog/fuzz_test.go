package binlog

import (
	"context"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// fuzzTableMap is a TABLE_MAP event of shop.item (id INT UNSIGNED, sku
// VARCHAR(300) latin1, d DECIMAL(10,3), e ENUM('a','b'), t TIME(3), doc JSON,
// b BINARY(4)) with full meta data.
func fuzzTableMap() []byte {
	b := []byte{1, 0, 0, 0, 0, 0, 1, 0, 4}
	b = append(append(b, "shop"...), 0, 4)
	b = append(append(b, "item"...), 0, 7)
	b = append(b, 3, 15, 246, 254, 19, 245, 254)
	b = append(b, 10, 0x2c, 1, 10, 3, 247, 1, 3, 4, 254, 4)
	b = append(b, 0x7f)
	b = append(b, 1, 1, 0x80)                                                                             // signedness
	b = append(b, 3, 2, 8, 63)                                                                            // column character sets: sku, b
	b = append(b, 11, 1, 8)                                                                               // of ENUM and SET
	b = append(b, 4, 19, 2, 'i', 'd', 3, 's', 'k', 'u', 1, 'd', 1, 'e', 1, 't', 3, 'd', 'o', 'c', 1, 'b') // names
	return append(b, 6, 5, 2, 1, 'a', 1, 'b')
}

func fuzzRows() []byte {
	b := []byte{1, 0, 0, 0, 0, 0, 1, 0, 2, 0, 7, 0x7f, 0x00}
	b = append(b, 0xff, 0xff, 0xff, 0xff)       // id
	b = append(b, 2, 0, 0xe9, 'x')              // sku
	b = append(b, 0x80, 0, 0, 1, 1, 0xf4)       // d
	b = append(b, 2)                            // e
	b = append(b, 0x80, 0x10, 0x83, 0x04, 0xb0) // t
	b = append(b, 3, 0, 0, 0, 1, 2, 3)          // doc
	return append(b, 2, 0xab, 0xcd)             // b
}

func TestHandMadeEvent(t *testing.T) {
	var got []string
	d := fuzzDecoder(t, func(b pipeline.Batch) {
		x := seenTxn{}
		x.take(b)
		if x.reason != "" {
			t.Log(x.reason)
		}
		got = append(got, describe([]seenTxn{x})...)
	})
	for _, e := range []struct {
		typ  replication.EventType
		body []byte
	}{
		{replication.MARIADB_GTID_EVENT, make([]byte, 13)}, {replication.TABLE_MAP_EVENT, fuzzTableMap()},
		{replication.WRITE_ROWS_EVENTv2, fuzzRows()}, {replication.XID_EVENT, make([]byte, 8)},
	} {
		if err := d.event(&replication.EventHeader{EventType: e.typ}, e.body, 4); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != 1 || got[0] != `item: - -> (4294967295, "éx", 1.500, "b", "01:02:03.120", "abcd0000")` {
		t.Errorf("got %q", got)
	}
}

func fuzzDecoder(t testing.TB, fn func(pipeline.Batch)) *decoder {
	schema := parseSchema(t, rule("item", "shop.item", "id", "sku", "d", "e", "t", "b"), rule("any", "s*.*", "id"))
	return newDecoder(context.Background(), Config{Schema: schema}, Server{Flavor: "mysql"},
		func(_ context.Context, b pipeline.Batch) error { fn(b); return nil })
}

// FuzzEvents: no bytes make the decoder panic or read outside of the event, and
// what it hands over is well formed.
func FuzzEvents(f *testing.F) {
	f.Add(byte(replication.WRITE_ROWS_EVENTv2), fuzzTableMap(), fuzzRows())
	f.Add(byte(replication.PARTIAL_UPDATE_ROWS_EVENT), fuzzTableMap(), fuzzRows())
	f.Add(byte(replication.QUERY_EVENT), []byte{}, append(make([]byte, 13), "\x00DROP TABLE shop.item"...))
	f.Add(byte(replication.TRANSACTION_PAYLOAD_EVENT), []byte{}, []byte{2, 1, 255, 0, 1, 2, 3})
	f.Add(byte(replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1), fuzzTableMap(), fuzzRows())
	f.Fuzz(func(t *testing.T, typ byte, tableMap, body []byte) {
		d := fuzzDecoder(t, func(b pipeline.Batch) {
			for _, tr := range b.Tables {
				for _, r := range tr.Rows {
					if r.Before == nil && r.After == nil || r.Before != nil && len(r.Before) != len(tr.Columns) || r.After != nil && len(r.After) != len(tr.Columns) {
						t.Fatalf("a row of %d and %d values for %d columns", len(r.Before), len(r.After), len(tr.Columns))
					}
				}
			}
		})
		_ = d.event(&replication.EventHeader{EventType: replication.MARIADB_GTID_EVENT}, make([]byte, 13), 4)
		_ = d.event(&replication.EventHeader{EventType: replication.TABLE_MAP_EVENT}, tableMap, 4)
		_ = d.event(&replication.EventHeader{EventType: replication.EventType(typ)}, body, 4)
		_ = d.event(&replication.EventHeader{EventType: replication.XID_EVENT}, make([]byte, 8), 4)
	})
}
