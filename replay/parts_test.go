package replay

import (
	"fmt"
	"slices"
	"testing"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// TestParts: whatever a chunk is made of, its parts hold the same, in order, and
// are small where they can be.
func TestParts(t *testing.T) {
	ids := func(from, n int) (all []int) {
		for i := range n {
			all = append(all, from+i)
		}
		return all
	}
	scopes := pipeline.Event{Kind: pipeline.KindInvalidate, Scopes: []pipeline.Scope{pipeline.Everything}}
	listed := manyKeys(2500)
	listed.Patterns = []string{"old:*"}
	two := items("g", ids(0, 3000)...)
	two.Tables = append(two.Tables, items("g", ids(5000, 10)...).Tables...)
	for _, c := range []struct {
		name   string
		events []pipeline.Event
		n      int // keys
		parts  int
	}{
		{"nothing", nil, 0, 1},
		{"small", []pipeline.Event{items("g", ids(0, 1500)...)}, 1500, 1},
		{"one event", []pipeline.Event{items("g", ids(0, 5000)...)}, 5000, 5},
		{"three keys to a row", []pipeline.Event{items("g", ids(0, 1000)...)}, 3000, 4},
		{"one key for all rows", []pipeline.Event{items("g", ids(0, 5000)...)}, 1, 1},
		{"many small", slices.Repeat([]pipeline.Event{items("g", ids(0, 7)...)}, 500), 3500, 4},
		{"keys", []pipeline.Event{listed}, 2500, 3},
		{"mixed", []pipeline.Event{scopes, items("g", ids(0, 2500)...), scopes, listed}, 5000, 5},
		{"two tables", []pipeline.Event{two, items("g", 1, 2)}, 3012, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			parts := partsOf(c.events, c.n)
			if len(parts) != c.parts {
				t.Errorf("%d parts, want %d", len(parts), c.parts)
			}
			if got, want := contents(slices.Concat(parts...)), contents(c.events); !slices.Equal(got, want) {
				t.Errorf("%d things came out of %d", len(got), len(want))
			}
		})
	}
}

// contents lists what events hold.
func contents(events []pipeline.Event) (all []string) {
	for _, e := range events {
		all = append(all, e.Keys...)
		all = append(all, e.Patterns...)
		for _, s := range e.Scopes {
			all = append(all, fmt.Sprint(s))
		}
		for _, t := range e.Tables {
			for _, r := range t.Rows {
				all = append(all, fmt.Sprint(t.DB, t.Table, t.Columns, r, e.GTID, e.Source))
			}
		}
	}
	return all
}
