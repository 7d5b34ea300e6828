package pipeline_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// A reader that is stopped is put out after MaxWait, durably; when it is back
// the second pass is repeated from there, also by a next owner.
func TestReaderOutAndBack(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%v", restart), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGated(t, 1000, 2)
				slow := g.servers[1]
				stop := g.start()
				for i := range 4 {
					g.commit(i + 1)
				}
				g.after(9 * time.Minute)
				g.wantSecond("cart:3", 0, "")
				g.after(10*time.Minute + 20*time.Second)
				g.wantSecond("cart:1", 1, pipeline.ReleaseWithout) // one read, one step
				g.wantSecond("cart:3", 1, pipeline.ReleaseWithout)
				if told := g.told(); len(told) != 1 || !told[0].Out || told[0].Reader != "r2" || told[0].From != 0 {
					t.Fatalf("told %+v", told)
				}
				if c, _ := g.log.Cursors(0); c.Second != 4 || !strings.Contains(c.Marks, `"out":0`) {
					t.Errorf("stored %+v", c)
				}
				if s := g.Readers.State(); s[1].MayServe || !s[0].MayServe || !slices.Equal(s[1].Out, []string{"test/0"}) || s[1].Behind != 998 {
					t.Errorf("state %+v", s)
				}
				g.commit(5)
				if restart {
					stopped(t, stop)
					stop = g.start()
				}
				g.after(11 * time.Minute)
				g.wantSecond("cart:5", 1, pipeline.ReleaseWithout) // not waited for
				slow.Show(upTo(1000))
				g.after(11*time.Minute + 5*time.Second)
				g.wantSecond("cart:3", 1, pipeline.ReleaseWithout)
				g.after(11*time.Minute + 20*time.Second)
				for i := range 5 {
					g.wantSecond(fmt.Sprintf("cart:%d", i+1), 2, pipeline.ReleaseReaders)
				}
				if c, _ := g.log.Cursors(0); c.Second != 5 || strings.Contains(c.Marks, `"out"`) {
					t.Errorf("stored %+v", c)
				}
				if told := g.told(); told[len(told)-1].Out {
					t.Errorf("told %+v", told)
				}
				stopped(t, stop)
			})
		})
	}
}

// Marks are stored before anything is done without the reader.
func TestMarksBeforeDeletes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 0)
		g.commit(1)
		g.truncate(1)
		stop := g.start()
		g.after(5 * time.Minute)
		lock(g.bench, func() { g.refuse["store"] = 1 << 30 })
		g.after(15 * time.Minute)
		g.wantCalls("0s cart:1", "0s category:*:items item:*")
		lock(g.bench, func() { g.refuse["store"] = 0 })
		g.after(16 * time.Minute)
		g.wantSecond("cart:1", 1, pipeline.ReleaseWithout)
		if len(g.asked()) != 4 {
			t.Errorf("Redis was asked for %q", g.asked())
		}
		stopped(t, stop)
	})
}

// A sweep that was made without a reader is repeated when it is back, too.
func TestSweepWhileReaderIsOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000, 0)
		g.commit(1)
		stop := g.start()
		g.after(11 * time.Minute)
		g.truncate(2)
		g.after(12 * time.Minute)
		g.servers[1].Show(upTo(1000))
		g.after(13 * time.Minute)
		var sweeps []string
		for _, c := range g.asked() {
			if strings.Contains(c, "*") {
				sweeps = append(sweeps, c[:3])
			}
		}
		if !slices.Equal(sweeps, []string{"11m", "12m"}) && !slices.Equal(sweeps, []string{"11m", "11m", "12m"}) {
			t.Errorf("Redis was asked for %q", g.asked())
		}
		g.wantCursorsAt(2, 2)
		stopped(t, stop)
	})
}

// Timers that began without a reader are void when it is back, also where
// nothing was deleted yet.
func TestTimersWithoutReaderAreVoid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000, 0)
		g.commit(1)
		stop := g.start()
		g.after(11 * time.Minute)
		g.wantSecond("cart:1", 1, pipeline.ReleaseWithout)
		g.source.Show(upTo(1001))
		g.servers[0].Show(upTo(1001))
		g.commit(1001) // due in 10 s, without r2
		g.after(11*time.Minute + 5*time.Second)
		g.servers[1].Show(upTo(1000)) // it has caught up with what was there when it was put out
		g.after(11*time.Minute + 30*time.Second)
		g.wantSecond("cart:1001", 0, "")
		g.servers[1].Show(upTo(1001))
		g.after(11*time.Minute + 41*time.Second)
		g.wantSecond("cart:1", 2, pipeline.ReleaseReaders)
		g.wantSecond("cart:1001", 1, pipeline.ReleaseReaders)
		stopped(t, stop)
	})
}

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

// Another server behind the name while nobody looked.
func TestReaderReplacedWhileDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000)
		stop := g.start()
		g.commit(1)
		g.after(20 * time.Second)
		stopped(t, stop)
		g.servers[0].Become("another")
		g.servers[0].Show(upTo(0 + 1))
		g.source.Show(upTo(5))
		g.servers[0].Show(uuid + ":5")
		stop = g.start()
		g.after(40 * time.Second)
		g.wantSecond("cart:1", 1, pipeline.ReleaseReaders)
		g.servers[0].Show(upTo(5))
		g.after(60 * time.Second)
		g.wantSecond("cart:1", 2, pipeline.ReleaseReaders)
		stopped(t, stop)
	})
}

// A reader that was added owes what it lacks; one that has everything, nothing.
func TestReaderAdded(t *testing.T) {
	for _, c := range []struct {
		name    string
		has     int
		drop    int64
		again   []int
		sweeps  int
		noMarks bool
	}{
		{name: "has everything", has: 1000},
		{name: "lacks the end", has: 994, again: []int{995, 996, 997, 998, 999, 1000}},
		{name: "lacks the end, and the log its beginning", has: 994, drop: 900, again: []int{995, 996, 997, 998, 999, 1000}},
		{name: "lacks what the log no longer has", has: 10, drop: 900, sweeps: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGated(t, 1000)
				stop := g.start()
				for i := range 1000 {
					g.commit(i + 1)
					if i%50 == 0 {
						g.progress(i + 1)
					}
				}
				g.after(20 * time.Second)
				stopped(t, stop)
				g.log.Drop(0, c.drop)
				g.calls, g.deleted = nil, nil
				g.servers = append(g.servers, pipelinetest.NewServer("r2", upTo(c.has)))
				g.Readers.Servers = append(g.Readers.Servers, g.servers[1])
				stop = g.start()
				g.after(40 * time.Second)
				g.servers[1].Show(upTo(1000))
				g.after(80 * time.Second)
				var again []int
				for i := range 1000 {
					if n, _ := g.secondDeletes(fmt.Sprintf("cart:%d", i+1)); n > 0 {
						again = append(again, i+1)
					}
				}
				for _, n := range c.again {
					if !slices.Contains(again, n) {
						t.Errorf("%d was not deleted again", n)
					}
				}
				if len(again) > len(c.again)+100 { // whole reads
					t.Errorf("%d were deleted again: from %d", len(again), again[0])
				}
				sweeps := 0
				for _, call := range g.asked() {
					if strings.HasSuffix(call, sweep) {
						sweeps++
					}
				}
				if sweeps != c.sweeps {
					t.Errorf("%d sweeps, want %d", sweeps, c.sweeps)
				}
				if c, _ := g.log.Cursors(0); c.Second != 1020 || strings.Contains(c.Marks, "out") || !strings.Contains(c.Marks, "r2") {
					t.Errorf("stored %+v", c)
				}
				stopped(t, stop)
			})
		})
	}
}

// A reader that is out when a gap is found is owed it as well.
func TestGapWhileReaderIsOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000, 0)
		g.log.SetGap(0, "another log")
		stop := g.start()
		g.after(11 * time.Minute)
		g.servers[1].Show(upTo(1000))
		g.after(12 * time.Minute)
		if c := g.asked(); len(c) != 3 || c[1] != "10m0s "+sweep || !strings.HasPrefix(c[2], "11m1") || !strings.HasSuffix(c[2], sweep) {
			t.Errorf("Redis was asked for %q", c)
		}
		stopped(t, stop)
	})
}

// The same where the gap is found later.
func TestGapFoundWhileReaderIsOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000, 0)
		g.commit(1)
		stop := g.start()
		g.after(11 * time.Minute)
		g.log.Drop(0, 10) // more than there is: records are gone that nobody has read
		g.after(12 * time.Minute)
		before := g.asked() // the source has shown nothing new for long, so both sweeps may be one
		if !strings.HasSuffix(before[len(before)-1], sweep) {
			t.Errorf("Redis was asked for %q", before)
		}
		g.servers[1].Show(upTo(1000))
		g.after(13 * time.Minute)
		if c := g.asked(); len(c) != len(before)+1 || !strings.HasSuffix(c[len(c)-1], sweep) {
			t.Errorf("Redis was asked for %q", c)
		}
		g.wantCursorsAt(10, 10)
		stopped(t, stop)
	})
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
