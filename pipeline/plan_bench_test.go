package pipeline

import (
	"fmt"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
)

// BenchmarkPlan plans a fetch of 1,000 transactions of one row each, which is
// the dearest there is for each row: both passes do it where the second has to
// read again.
func BenchmarkPlan(b *testing.B) {
	s, err := keys.Parse("shop.yaml", []byte("version: 1\nkeys: [{name: cart, table: shop.cart, key: \"cart:{id}\"}]\n"))
	if err != nil {
		b.Fatal(err)
	}
	var msgs []Message
	for i := range 1000 {
		msgs = append(msgs, Message{Offset: int64(i), Data: fmt.Appendf(nil,
			`{"v":1,"kind":"changes","source":"shop","gtid":"3e11fa47-71ca-11e1-9e33-c80aa9429562:%d","seq":0,"schema":%q,"tables":[{"db":"shop","table":"cart","columns":["id"],"rows":[{"after":[%d]}]}]}`,
			8*i+1, s.Hash(), i)}) // one of eight partitions
	}
	pl := newPlanner(s, lanesOf(s, time.Second), nil)
	b.ReportAllocs()
	for b.Loop() {
		if p := pl.plan("test/0", msgs); len(p.keys) != 1000 || p.unnamed {
			b.Fatalf("%d keys", len(p.keys))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/row")
}
