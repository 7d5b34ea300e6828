package pipeline_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// A row without a place in a record invalidates its table, once in a
// transaction, and nothing else is lost (I8).
func TestRowWithoutPlaceInvalidatesItsTable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		odd := func(table, value string) pipeline.TableRows {
			v := keys.Value{Kind: keys.Text, Text: value}
			return pipeline.TableRows{DB: "shop", Table: table, Columns: []string{"id"}, Rows: []pipeline.Row{{After: []keys.Value{v}}, {Before: []keys.Value{v}}}}
		}
		b := carts(1, 2)
		b.Tables = append(b.Tables, odd("cart", "\xff"), odd("item", strings.Repeat("x", 600<<10)), odd(`a*\?`, "\xff"), odd("\xff", "1"))
		b.Tables = append(b.Tables, carts(3).Tables...)
		b.Invalidate, b.Reason = []pipeline.Scope{{DB: "shop", Table: "cart"}, {DB: "shop", Table: "x"}}, "DDL"
		r.src.Commit(b)
		r.src.Commit(pipeline.Batch{Tables: []pipeline.TableRows{odd("cart", "\xff")}})
		stop := start(t, r.Run)
		r.wantPosition("src:2")
		r.wantKeys(
			"cart:1", "cart:2", "cart:3", "shop.*: a value is not valid UTF-8", `shop.a\*\\\?: a value is not valid UTF-8`,
			"shop.cart: DDL", "shop.cart: a value is not valid UTF-8", "shop.cart: a value is not valid UTF-8",
			"shop.item: the key columns of a row are too large for a record", "shop.x: DDL",
		)
		if len(r.over) != 7 {
			t.Errorf("reported %+v", r.over)
		}
		stopped(t, stop)
	})
}

// A statement that changes very many tables becomes bounded records, all of one
// transaction.
func TestScopesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		const n = 1201
		b := pipeline.Batch{Reason: "DDL"}
		var want []string
		for i := range n {
			s := pipeline.TableScope(strings.Repeat("*", 64), fmt.Sprintf("%04d", i)+strings.Repeat(`\`, 60))
			b.Invalidate = append(b.Invalidate, s)
			want = append(want, fmt.Sprintf("%s.%s: DDL", s.DB, s.Table))
		}
		r.src.Commit(b)
		stop := start(t, r.Run)
		r.wantPosition("src:1")
		r.wantKeys(want...)
		seqs := map[int]bool{}
		for _, e := range r.events() {
			if len(e.Scopes) > 500 || e.GTID != "src:1" || seqs[e.Seq] {
				t.Errorf("%d scopes in seq %d of %s", len(e.Scopes), e.Seq, e.GTID)
			}
			seqs[e.Seq] = true
		}
		for p := range 2 {
			for _, m := range r.log.Records(p) {
				if len(m.Data) > 512<<10 {
					t.Errorf("a record of %d bytes", len(m.Data))
				}
			}
		}
		if len(seqs) != 3 || len(r.over) != n {
			t.Errorf("%d records, %d reported", len(seqs), len(r.over))
		}
		stopped(t, stop)
	})
}

// A large transaction becomes bounded records, and a row stays in one partition.
func TestRecordsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		const n = 30_000
		ids := make([]int, n)
		for i := range ids {
			ids[i] = i % (n / 2)
		}
		r.src.Commit(carts(ids...))
		stop := start(t, r.Run)
		r.wantPosition("src:1")
		seen, seqs := map[string]int{}, map[int]bool{}
		for p := range 2 {
			for _, m := range r.log.Records(p) {
				if len(m.Data) > 66<<10 {
					t.Errorf("a record of %d bytes", len(m.Data))
				}
				e, err := pipeline.DecodeEvent(m.Data)
				if err != nil {
					t.Fatal(err)
				}
				if seqs[e.Seq] {
					t.Errorf("seq %d twice", e.Seq)
				}
				seqs[e.Seq] = true
				for _, k := range keysOf(e.Tables) {
					if was, ok := seen[k]; ok && was != p {
						t.Fatalf("%s is in partitions %d and %d", k, was, p)
					}
					seen[k] = p
				}
			}
		}
		if len(seen) != n/2 || len(seqs) < 8 {
			t.Errorf("%d keys in %d records", len(seen), len(seqs))
		}
		stopped(t, stop)
	})
}
