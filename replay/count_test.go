package replay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// TestDistinct compares with a map, with memory that is far too small.
func TestDistinct(t *testing.T) {
	for _, c := range []struct{ limit, adds, of int }{
		{0, 20_000, 5000}, {64, 0, 1}, {64, 63, 1000}, {64, 64, 1000}, {64, 5000, 10}, {64, 20_000, 1 << 40}, {1000, 20_000, 15_000},
	} {
		t.Run(fmt.Sprintf("%d of %d in %d", c.adds, c.of, c.limit), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(c.limit), 1))
			dir := t.TempDir()
			d := newDistinct(dir, c.limit, 100)
			all, byRule := map[string]bool{}, [3]map[string]bool{{}, {}, {}}
			for range c.adds {
				key, rule := fmt.Sprint("item:", rng.IntN(c.of)), rng.IntN(3)
				all[key], byRule[rule][key] = true, true
				if err := d.add(key, uint16(rule)); err != nil {
					t.Fatal(err)
				}
			}
			total, each, err := d.count()
			if err != nil || total != int64(len(all)) {
				t.Errorf("%d keys, want %d: %v", total, len(all), err)
			}
			for r, want := range byRule {
				if each[uint16(r)] != int64(len(want)) {
					t.Errorf("rule %d: %d keys, want %d", r, each[uint16(r)], len(want))
				}
			}
			few := d.few.list()
			slices.Sort(few)
			if len(few) != min(100, len(all)) || len(slices.Compact(few)) != min(100, len(all)) {
				t.Errorf("a sample of %d", len(few))
			}
			for _, k := range few {
				if !all[k] {
					t.Errorf("%s in the sample", k)
				}
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			if err := d.close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSampleIsFair: a key that comes ten times is sampled no more often
// than one that comes once.
func TestSampleIsFair(t *testing.T) {
	hits := 0
	for range 200 {
		d := newDistinct(t.TempDir(), 0, 10)
		for i := range 100 {
			for range 1 + 9*(i/50) { // the upper half comes ten times
				if err := d.add(fmt.Sprint(i), 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, k := range d.few.list() {
			if len(k) == 2 && k >= "50" {
				hits++
			}
		}
	}
	if hits < 850 || hits > 1150 { // 1000 expected, sigma 21
		t.Errorf("%d of 2000 samples from the half that comes often", hits)
	}
}

func TestCount(t *testing.T) {
	schema := parse(t, itemRule, `{name: list, table: shop.item, key: "items"}`, `{name: size, table: shop.item, key: "size:{size}"}`, `{name: cart, table: shop.cart, key: "cart:{id}"}`)
	old := parse(t, itemRule, `{name: was, table: shop.item, key: "was:{id}"}`)
	l := &life{}
	src := &chunksSource{l, []Chunk{
		{Rows: 3, Events: []pipeline.Event{items("g", 1, 2, 3)}},
		{Rows: 7},
		{Rows: 3, Events: []pipeline.Event{items("g", 3, 4), items("g", 4)}},
		{Rows: 2, Events: []pipeline.Event{
			{Kind: pipeline.KindKeys, Keys: []string{"item:1", "free", "free"}, Patterns: []string{"x:*"}, Reason: "asked for"},
			{Kind: pipeline.KindInvalidate, Scopes: []pipeline.Scope{pipeline.TableScope("shop", "cart")}, Reason: "TRUNCATE"},
		}},
	}}
	var progress []Progress
	c := &Count{Source: src, Schema: schema, Old: old, Dir: t.TempDir(), Rate: 2, limit: 2,
		Cached: func(_ context.Context, keys []string) (int, error) {
			if len(keys) != 10 {
				t.Errorf("asked for %q", keys)
			}
			return 5, nil
		},
		Progress: func(p Progress) { progress = append(progress, p) },
	}
	got, err := c.Do(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// item:1-4, items, free, was:1-4; chunks name 3+1+3, 2+1+2 and 2 of them.
	want := Counted{
		Rows: 15, Chunks: 4, Keys: 10, Sent: 14, Listed: 2, OldKeys: 4, Seconds: 7,
		Rules: []RuleCount{{"item", 4}, {"list", 1}, {"size", 0}, {"cart", 0}},
		Patterns: []Sweep{
			{"cart:*", "cart", "TRUNCATE"},
			{"size:*", "size", `column "size" is not in the row image`},
			{"x:*", "", "asked for"},
		},
		Sampled: 10, Cached: 5, Misses: 5, MissesPerSecond: 1,
	}
	if asJSON(t, got) != asJSON(t, want) {
		t.Errorf("got  %s\nwant %s", asJSON(t, got), asJSON(t, want))
	}
	if len(progress) != 4 || progress[3].Rows != 15 || progress[3].Done != 1 {
		t.Errorf("%+v", progress)
	}
}

// TestCountBlind: a source without old values has the old schema's rules swept.
func TestCountBlind(t *testing.T) {
	c := &Count{
		Source: &chunksSource{&life{}, []Chunk{{Rows: 1, Events: []pipeline.Event{items("g", 1)}}}}, Dir: t.TempDir(),
		Schema: parse(t, itemRule), Old: parse(t, `{name: was, table: shop.item, key: "was:{id}"}`), SweepOld: []pipeline.Scope{pipeline.TableScope("shop", "item")},
	}
	got, err := c.Do(t.Context())
	if err != nil || got.OldKeys != 0 || got.Keys != 1 || len(got.Patterns) != 1 || got.Patterns[0].Pattern != "was:*" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCountFails(t *testing.T) {
	broken := errors.New("the table is gone")
	c := &Count{Source: failingSource{&chunksSource{&life{}, nil}, broken}, Schema: parse(t, itemRule), Dir: t.TempDir()}
	if _, err := c.Do(t.Context()); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// BenchmarkDistinct counts ten million keys, and prints the memory it took.
func BenchmarkDistinct(b *testing.B) {
	const n = 10_000_000
	for b.Loop() {
		began := time.Now()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		d := newDistinct(b.TempDir(), 0, sampleSize)
		key := []byte("shop:item:0000000000")
		for i := range n {
			if err := d.add(string(fmt.Appendf(key[:10], "%d", i)), 0); err != nil {
				b.Fatal(err)
			}
		}
		total, _, err := d.count()
		if err != nil || total != n {
			b.Fatalf("%d: %v", total, err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
		b.ReportMetric(n/time.Since(began).Seconds(), "keys/s")
		if err := d.close(); err != nil {
			b.Fatal(err)
		}
	}
}
