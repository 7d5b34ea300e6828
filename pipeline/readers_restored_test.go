package pipeline_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// A reader whose history went back, or that is another server, owes everything
// that it does not have now; what it has is not deleted again.
func TestReaderRestored(t *testing.T) {
	for _, another := range []bool{false, true} {
		t.Run(fmt.Sprintf("another=%v", another), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGated(t, 1000)
				stop := g.start()
				for i := range 6 {
					g.after(time.Duration(i) * time.Second)
					g.commit(i + 1)
				}
				g.after(30 * time.Second)
				g.wantSecond("cart:6", 1, pipeline.ReleaseReaders)
				r := g.servers[0]
				r.Show(upTo(3))
				if another {
					r.Become("another")
				}
				g.after(40 * time.Second)
				if told := g.told(); len(told) != 1 || !told[0].Out {
					t.Fatalf("told %+v", told)
				}
				r.Show(upTo(1000))
				g.after(60 * time.Second)
				for i := range 6 {
					n, _ := g.secondDeletes(fmt.Sprintf("cart:%d", i+1))
					if want := map[bool]int{true: 1, false: 2}[i < 3]; n != want {
						t.Errorf("cart:%d was deleted %d times by the second pass, want %d", i+1, n, want)
					}
				}
				g.wantCursorsAt(6, 6)
				stopped(t, stop)
			})
		})
	}
}

// A reader that was restored under its old identity while no invalidator ran is
// found out by what the log says that it had.
func TestReaderRestoredWhileDown(t *testing.T) {
	for _, c := range []struct {
		name    string
		has     int   // what it shows at the new start, of 6
		idle    int   // progress records behind the events
		drop    int64 // of the log's front
		lost    bool  // the source has lost the last one
		nothing bool  // no rule is about the last one
		out     bool  // it was out from 3 on
		again   int   // the first that is deleted again; 0: none
		sweep   bool
	}{
		{name: "restored", has: 3, again: 4},
		{name: "restored after a quiet time", has: 3, idle: 600, again: 4},
		{name: "restored, the front is gone", has: 3, drop: 2, sweep: true},
		{name: "complete", has: 6},
		{name: "complete after a quiet time", has: 6, idle: 600},
		{name: "the source has lost it too", has: 5, lost: true},
		{name: "was not waited for", has: 6, nothing: true},
		{name: "was out", has: 2, out: true, again: 3},
		{name: "was out, and is restored", has: 1, out: true, again: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGated(t, 0)
				all := 6
				g.servers[0].Show(upTo(6))
				g.source.Show(upTo(6))
				if c.out {
					g.servers[0].Show(upTo(2))
				}
				stop := g.start()
				for i := range 6 {
					g.after(time.Duration(i) * time.Second)
					g.commit(i + 1)
				}
				if c.nothing {
					g.after(30 * time.Second)
					g.event(fmt.Sprintf(`"kind":"changes","gtid":"%s:7","tables":[{"db":"shop","table":"unknown","columns":["id"],"rows":[{"after":[7]}]}]`, uuid))
					g.source.Show(upTo(7))
					all = 7
				}
				for range c.idle {
					g.progress(6)
				}
				g.after(20 * time.Minute)
				stopped(t, stop)
				g.log.Drop(0, c.drop)
				if c.lost {
					g.source.Show(upTo(5))
				}
				g.servers[0].Show(upTo(c.has)) // under its old identity
				g.calls, g.deleted, g.out = nil, nil, nil
				stop = g.start()
				g.after(21 * time.Minute)
				if out := len(g.told()) > 0; out != (c.again > 0 || c.sweep) {
					t.Errorf("told %+v", g.told())
				}
				g.servers[0].Show(upTo(all))
				g.after(23 * time.Minute)
				for i := range 6 {
					want := 0
					if c.again > 0 && i+1 >= c.again {
						want = 1
					}
					if n, _ := g.secondDeletes(fmt.Sprintf("cart:%d", i+1)); n != want {
						t.Errorf("cart:%d was deleted again %d times, want %d", i+1, n, want)
					}
				}
				if swept := slices.ContainsFunc(g.asked(), func(s string) bool { return strings.HasSuffix(s, sweep) }); swept != c.sweep {
					t.Errorf("Redis was asked for %q", g.asked())
				}
				if m, _ := g.log.Cursors(0); strings.Contains(m.Marks, `"out"`) || m.Second != int64(all+c.idle) {
					t.Errorf("stored %+v", m)
				}
				stopped(t, stop)
			})
		})
	}
}
