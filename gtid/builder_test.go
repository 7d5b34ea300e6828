package gtid

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// A Builder makes what Set.Add makes.
func TestBuilder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 500 {
		var b Builder
		var want Set
		at := int64(1)
		for range r.IntN(60) {
			at = max(1, at+int64(r.IntN(5))-1)
			g := fmt.Sprintf("%s:%d", []string{a, b2}[r.IntN(2)], at)
			switch r.IntN(8) {
			case 0:
				g = fmt.Sprintf("%s:red:%d", a, at)
			case 1:
				g = fmt.Sprintf("%d-%d-%d", r.IntN(2), 1+r.IntN(2), at)
			}
			if err := b.Add(g); err != nil {
				t.Fatal(err)
			}
			if err := want.Add(g); err != nil {
				t.Fatal(err)
			}
		}
		got := b.Set()
		if !got.HasAll(want) || !want.HasAll(got) || got.Empty() != want.Empty() {
			t.Fatalf("got %s, want %s", got, want)
		}
		if again := b.Set(); !again.Empty() {
			t.Fatalf("%s is left", again)
		}
	}
	var bad Builder
	if err := bad.Add("x"); err == nil || !bad.Set().Empty() {
		t.Error("took x")
	}
}

const b2 = "4e11fa47-71ca-11e1-9e33-c80aa9429563"
