package main

import (
	"fmt"
	"io"
	"slices"
)

// titles are the caches as the table names them, in two lines.
var titles = map[string][2]string{
	none:     {"no", "invalidation"},
	one:      {"one delete,", "at the event"},
	textbook: {"double delete", "1 s (textbook)"},
	plain:    {"doubletap,", "GET and SET"},
	lease:    {"doubletap,", "with leases"},
}

// table shows how many keys each cache had stale after each scene.
type table struct {
	out    io.Writer
	caches []*cache
	bad    []string // what must not have been
	seen   bool     // the textbook was stale somewhere: the scenes can show it
	noted  bool     // a number is explained below
}

func newTable(out io.Writer, caches []*cache) *table {
	fmt.Fprintf(out, "\n  Stale keys, once all is at rest, of all keys that were written:\n\n")
	for i := range 2 {
		fmt.Fprintf(out, "  %-40s", []string{"", "what happens"}[i])
		for _, c := range caches {
			fmt.Fprintf(out, " %15s", titles[c.name][i])
		}
		fmt.Fprintln(out)
	}
	return &table{out: out, caches: caches}
}

func (t *table) row(s scene, of int, stale [][]int) {
	fmt.Fprintf(t.out, "  %-40s", s.name)
	for i, c := range t.caches {
		n := len(stale[i])
		text := fmt.Sprintf("%d of %d", n, of)
		switch {
		case n > 0 && c.name == plain && s.allowed:
			text += " *"
			t.noted = true
		case n > 0 && slices.Contains(mustNot, c.name):
			t.bad = append(t.bad, fmt.Sprintf("%s: %d keys of %s", s.name, n, c.name))
		case n > 0 && c.name == textbook:
			t.seen = true
		}
		fmt.Fprintf(t.out, " %15s", text)
	}
	fmt.Fprintln(t.out)
}

// end prints the verdict.
func (t *table) end() (ok bool) {
	fmt.Fprintln(t.out)
	if t.noted {
		fmt.Fprintln(t.out, "  * by contract: plain readers must SET within fill of their SELECT (here 1 s). Leases have no such bound.")
	}
	switch {
	case len(t.bad) > 0:
		fmt.Fprintf(t.out, "  RED: doubletap left keys stale: %q. This is a bug; please report it with what was printed above.\n", t.bad)
	case !t.seen:
		fmt.Fprintln(t.out, "  RED: the textbook left nothing stale, so this shows nothing.")
	default:
		fmt.Fprintln(t.out, "  GREEN: doubletap left no key stale within its bounds.")
	}
	return len(t.bad) == 0 && t.seen
}
