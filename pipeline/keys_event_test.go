package pipeline_test

import (
	"slices"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
)

// Keys that come as such are deleted in both passes, the second time after the
// longest fill there is, and globs of them by sweeps. No rule has to know them.
func TestKeysAsSuch(t *testing.T) {
	for name, c := range map[string]struct {
		schema string
		second string
	}{
		"every rule says nothing": {shop, "10s"},
		"a rule has a longer one": {fills, "1m0s"},
		"every rule has a lease":  {`{version: 1, keys: [{name: lease, table: shop.cart, key: "lease:{id}", lease: true}]}`, "10s"},
		"a rule has a shorter one": {
			`{version: 1, keys: [{name: short, table: shop.cart, key: "short:{id}", fill: 2s}]}`, "10s"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t)
				s, err := keys.Parse("keys.yaml", []byte(c.schema))
				if err != nil {
					t.Fatal(err)
				}
				b.Schema = s
				for _, k := range []string{"old:1:x", "older:2", "other"} {
					b.redis.Set(k, "v")
				}
				stop := b.start()
				b.event(`"kind":"keys","keys":["cart:1","no-rule:1"],"patterns":["old:*","older:?"]`)
				b.after(2 * time.Minute)
				b.wantCursors(1, 1)
				slices.Sort(b.calls)
				want := []string{
					"0s cart:1 no-rule:1", "0s old:* older:?",
					c.second + " cart:1 no-rule:1", c.second + " old:* older:?",
				}
				slices.Sort(want)
				b.wantCalls(want...)
				if left := b.redis.Keys(); !slices.Equal(left, []string{"other"}) {
					t.Errorf("%q are left", left)
				}
				if len(b.over) > 0 || len(b.log.Dead()) > 0 {
					t.Errorf("over-invalidated %+v, dead letters %+v", b.over, b.log.Dead())
				}
				stopped(t, stop)
			})
		})
	}
}

// A key that a rule makes as well, and that is to be deleted as such, has its
// second delete when both are due.
func TestKeysAsSuchAndOfARow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		s, err := keys.Parse("fills.yaml", []byte(fills))
		if err != nil {
			t.Fatal(err)
		}
		b.Schema = s
		b.event(`"kind":"keys","keys":["cart:1"]`)
		b.change(1)
		stop := b.start()
		b.after(2 * time.Minute)
		b.wantCursors(2, 2)
		last := b.calls[len(b.calls)-1]
		if last != "1m0s cart:1 long:1" {
			t.Errorf("the last delete is %q", last)
		}
		stopped(t, stop)
	})
}

// What nobody can mean is kept, and everything is deleted instead.
func TestKeysRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		stop := b.start()
		b.event(`"kind":"keys","keys":["cart:1"],"patterns":["*"]`)
		b.after(time.Minute)
		b.wantCalls("0s cart:* category:*:items item:*", "10s cart:* category:*:items item:*")
		if letters := b.log.Dead(); len(letters) != 1 || letters[0].Offset != 0 {
			t.Errorf("dead letters %+v", letters)
		}
		stopped(t, stop)
	})
}
