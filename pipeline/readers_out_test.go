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
				for i := range 4 {
					g.commit(i + 1)
				}
				stop := g.start() // after the commits, so that one read has them all
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
