package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

func header(out io.Writer) {
	fmt.Fprintf(out, "\n  %5s  %-8s %12s %12s %8s  %8s %8s  %s\n", "batch", "fault", "races", "fills across", "stale", "seconds", "races/s", "races so far")
}

// line prints the newest batch.
func line(out io.Writer, st *state) {
	o := st.Batches[len(st.Batches)-1]
	var t tally
	for _, u := range o.Caches {
		t = t.plus(u, 1)
	}
	fmt.Fprintf(out, "  %5d  %-8s %12d %12d %8d  %8.1f %8.0f  %d\n", o.Batch, o.Fault, t.Races, t.Overlaps, t.Stale, o.Seconds, float64(t.Races)/o.Seconds, st.races())
	for _, e := range o.Examples {
		fmt.Fprintf(out, "         %s\n", e)
	}
}

// report prints the run, and says whether every cache that must not have a
// stale key had none.
func report(out io.Writer, st *state) (ok bool) {
	ok = true
	fmt.Fprintf(out, "\n  %-9s %-8s %12s %12s %12s %12s %10s %9s %12s %8s\n",
		"cache", "fault", "races", "fills across", "read old", "stored", "refused", "too late", "compared", "stale")
	row := func(name, fault string, t tally) {
		if t.Checked > 0 {
			fmt.Fprintf(out, "  %-9s %-8s %12d %12d %12d %12d %10d %9d %12d %8d\n",
				name, fault, t.Races, t.Overlaps, t.Behind, t.Fills, t.Refused, t.Beyond, t.Checked, t.Stale)
		}
	}
	for _, name := range st.Settings.Caches {
		for _, fault := range faults {
			row(name, fault, st.totals(fault)[name])
		}
		t := st.totals("")[name]
		row(name, "all", t)
		if slices.Contains(mustNot, name) && t.Stale+t.Older > 0 {
			ok = false
		}
	}
	if t := st.totals("")[lease]; t.Asked > 0 {
		fmt.Fprintf(out, "\n  reads with the token of a write or of earlier reads: %d; older than the token allows: %d\n", t.Asked, t.Older)
	}
	if st.Replica != nil {
		fmt.Fprintln(out)
		st.Replica.print(out)
		ok = ok && st.Replica.Stale == 0
	}
	fmt.Fprintf(out, "\n  %d races in %d batches and %.0f s, %d times kill -9 of a command, seed %d\n", st.races(), len(st.Batches), st.seconds(), st.kills(), st.Settings.Seed)
	fmt.Fprintf(out, "  %s\n", map[bool]string{true: "GREEN", false: "RED: stale keys of " + strings.Join(mustNot, " or ") + ". This is a bug; please report it with what was printed above."}[ok])
	return ok
}

// mustNot have a stale key.
var mustNot = []string{plain, lease}
