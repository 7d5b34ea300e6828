package keys

import (
	"fmt"
	"slices"
	"testing"
)

func TestBindings(t *testing.T) {
	s, err := Parse("keys.yaml", []byte("version: 1\nkeys:\n  - {name: item, table: shop.item, key: 'item:{id}'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	b := NewBindings(s)
	one := b.Of("shop", "item", []string{"id", "name"})
	if one == nil || b.Of("shop", "item", []string{"id", "name"}) != one {
		t.Error("the same columns are bound again")
	}
	if b.Of("shop", "other", []string{"id"}) != nil {
		t.Error("a table without rules has a binding")
	}
	for i := range 3 * maxBindings { // as tables that are altered again and again
		var r Result
		b.Of("shop", "item", []string{fmt.Sprintf("c%d", i), "id"}).Append(&r, nil, []Value{{Number, "1"}, {Number, "7"}})
		if !slices.Equal(r.Keys, []string{"item:7"}) {
			t.Fatalf("columns %d: %q", i, r.Keys)
		}
	}
	if n := len(b.bound); n > maxBindings {
		t.Errorf("%d bindings are kept", n)
	}
}
