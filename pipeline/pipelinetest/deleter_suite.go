package pipelinetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// DeleterUnderTest is a pipeline.Deleter and a second way to the server that it
// deletes on.
type DeleterUnderTest struct {
	Deleter pipeline.Deleter
	// Set stores some value at each key.
	Set func(ctx context.Context, keys ...string) error
	// Left returns those of the keys that exist.
	Left func(ctx context.Context, keys ...string) ([]string, error)
}

// RunDeleter checks the contract of pipeline.Deleter. setup returns a deleter on
// an empty server; it is called once for each subtest.
func RunDeleter(t *testing.T, setup func(t *testing.T) DeleterUnderTest) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, d deleterCase)
	}{
		{"Nothing", testDeleteNothing},
		{"Keys", testDeleteKeys},
		{"HostileKeys", testDeleteHostile},
		{"ManyKeys", testDeleteMany},
		{"Concurrent", testDeleteConcurrent},
		{"Patterns", testDeletePatterns},
		{"ManyPatternKeys", testDeleteManyPatternKeys},
		{"Cancelled", testDeleteCancelled},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, deleterCase{setup(t)}) })
	}
}

type deleterCase struct{ DeleterUnderTest }

func (d deleterCase) set(t *testing.T, keys ...string) {
	t.Helper()
	if err := d.Set(t.Context(), keys...); err != nil {
		t.Fatal("set:", err)
	}
}

// wantLeft checks which of all keys exist.
func (d deleterCase) wantLeft(t *testing.T, all, want []string) {
	t.Helper()
	got, err := d.Left(t.Context(), all...)
	if err != nil {
		t.Fatal("left:", err)
	}
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%d keys are left, want %d; first ones: %q, want %q",
			len(got), len(want), head(got), head(want))
	}
}

func head(s []string) []string { return s[:min(len(s), 10)] }

func (d deleterCase) delete(t *testing.T, keys ...string) {
	t.Helper()
	if err := d.Deleter.Delete(t.Context(), keys); err != nil {
		t.Fatal("delete:", err)
	}
}

func testDeleteNothing(t *testing.T, d deleterCase) {
	d.set(t, "a")
	d.delete(t)
	if n, err := d.Deleter.DeletePatterns(t.Context(), nil); n != 0 || err != nil {
		t.Errorf("DeletePatterns(nil) = %d, %v", n, err)
	}
	d.wantLeft(t, []string{"a"}, []string{"a"})
}

func testDeleteKeys(t *testing.T, d deleterCase) {
	all := []string{"a", "b", "c"}
	d.set(t, all...)
	d.delete(t, "a", "missing", "c", "a")
	d.wantLeft(t, all, []string{"b"})
	d.delete(t, "a", "c") // again: idempotent
	d.wantLeft(t, all, []string{"b"})
}

// hostile are keys that a careless deleter would mistake: for a glob, for a
// protocol line, for a hash tag.
var hostile = []string{
	"*", "?", "[a]", `\*`, "a*", " ", "a b", "a\r\nDEL b\r\n", "\x00", "\xff\xfe",
	"{", "}", "{}", "{}x", "{t}x", "x{t}{u}", "{{t}}x", "$3\r\nabc", "é", strings.Repeat("long", 5000),
}

func testDeleteHostile(t *testing.T, d deleterCase) {
	others := []string{"a", "b", "ab", "abc", "x", "t"}
	all := append(slices.Clone(hostile), others...)
	d.set(t, all...)
	d.delete(t, hostile...)
	d.wantLeft(t, all, others)
}

func numbered(format string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf(format, i)
	}
	return keys
}

func testDeleteMany(t *testing.T, d deleterCase) {
	gone, stay := numbered("gone:%d", 10_007), numbered("stay:%d", 101)
	d.set(t, gone...)
	d.set(t, stay...)
	d.delete(t, gone...)
	d.wantLeft(t, append(gone, stay...), stay)
}

func testDeleteConcurrent(t *testing.T, d deleterCase) {
	keys := numbered("k:%d", 2_000)
	d.set(t, keys...)
	var wg sync.WaitGroup
	for part := range slices.Chunk(keys, 250) {
		wg.Go(func() {
			for chunk := range slices.Chunk(part, 50) {
				if err := d.Deleter.Delete(t.Context(), chunk); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			if _, err := d.Deleter.DeletePatterns(t.Context(), []string{"other:*"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	d.wantLeft(t, keys, nil)
}

func testDeletePatterns(t *testing.T, d deleterCase) {
	all := []string{
		"item:1", "item:2", "item:", "item", "items:1", "xitem:1", "{item:1}", "a*b", "aXb", "a*",
		"a?1", "a\\1", "u[1]:x", "u1:x", "user:1:orders", "user:1:cart",
	}
	for _, c := range []struct {
		patterns []string
		gone     []string
	}{
		{[]string{"nothing:*"}, nil},
		{[]string{"item:*"}, []string{"item:1", "item:2", "item:"}},
		{[]string{`a\*b`}, []string{"a*b"}},
		{[]string{`a\**`}, []string{"a*b", "a*"}},
		{[]string{`u\[1\]:*`}, []string{"u[1]:x"}},
		{[]string{"user:*:orders"}, []string{"user:1:orders"}},
		{[]string{"item:1"}, []string{"item:1"}},
		{[]string{"{item:*"}, []string{"{item:1}"}},
		{[]string{"item:*", "items:*", "item*"}, []string{"item:1", "item:2", "item:", "item", "items:1"}},
	} {
		d.set(t, all...)
		n, err := d.Deleter.DeletePatterns(t.Context(), c.patterns)
		if err != nil {
			t.Fatalf("%q: %v", c.patterns, err)
		}
		if n != len(c.gone) {
			t.Errorf("%q: deleted %d, want %d", c.patterns, n, len(c.gone))
		}
		d.wantLeft(t, all, slices.DeleteFunc(slices.Clone(all), func(k string) bool {
			return slices.Contains(c.gone, k)
		}))
	}
}

func testDeleteManyPatternKeys(t *testing.T, d deleterCase) {
	gone, stay := numbered("item:%d", 5_003), numbered("user:%d", 5_003)
	d.set(t, gone...)
	d.set(t, stay...)
	n, err := d.Deleter.DeletePatterns(t.Context(), []string{"item:*"})
	if err != nil || n != len(gone) {
		t.Fatalf("DeletePatterns = %d, %v; want %d", n, err, len(gone))
	}
	d.wantLeft(t, append(gone, stay...), stay)
}

func testDeleteCancelled(t *testing.T, d deleterCase) {
	d.set(t, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Deleter.Delete(ctx, []string{"a"}); err == nil {
		t.Error("Delete with a cancelled context returned nil")
	}
	if _, err := d.Deleter.DeletePatterns(ctx, []string{"a*"}); err == nil {
		t.Error("DeletePatterns with a cancelled context returned nil")
	}
	d.delete(t, "a") // and works again
	d.wantLeft(t, []string{"a"}, nil)
}
