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

// Two readers come back at once: what one of them has is not skipped where it is
// owed to the other one.
func TestTwoReadersBack(t *testing.T) {
	for name, order := range map[string][2]int{"the new one first": {2, 1}, "the late one first": {1, 2}, "together": {}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGated(t, 1000, 0)
				stop := g.start()
				for i := range 4 {
					g.commit(i + 1)
				}
				g.progress(4)
				g.after(11 * time.Minute)
				g.wantSecond("cart:3", 1, pipeline.ReleaseWithout) // without the second one
				stopped(t, stop)

				g.servers = append(g.servers, pipelinetest.NewServer("r3", upTo(1000))) // it has all that the second pass has passed
				g.Readers.Servers = append(g.Readers.Servers, g.servers[2])
				g.servers[2].Down(true)
				stop = g.start()
				g.after(12 * time.Minute)
				back := func(i int) {
					g.servers[i].Down(false)
					g.servers[i].Show(upTo(1000))
				}
				if order == [2]int{} {
					back(1)
					back(2)
				} else {
					back(order[0])
					g.after(12*time.Minute + 5*time.Second) // let in, and fill is not over
					back(order[1])
				}
				g.after(14 * time.Minute)
				g.wantSecond("cart:3", 2, pipeline.ReleaseReaders)
				g.wantCursorsAt(5, 5)
				stopped(t, stop)
			})
		})
	}
}

// A reader that is out may be gone for good, and is taken out of the configuration:
// what was owed to it is deleted then.
func TestReaderThatIsOutIsTakenAway(t *testing.T) {
	for _, others := range []int{1, 0} {
		t.Run(fmt.Sprint(others, " others"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGated(t, 1000, 0)
				stop := g.start()
				for i := range 4 {
					g.commit(i + 1)
				}
				g.truncate(5)
				g.after(11 * time.Minute)
				g.wantSecond("cart:3", 1, pipeline.ReleaseWithout)
				g.wantCursorsAt(5, 5)
				stopped(t, stop)
				g.Readers.Servers = g.Readers.Servers[:others]
				stop = g.start()
				g.after(12 * time.Minute)
				n, _ := g.secondDeletes("cart:3")
				if n != 2 {
					t.Errorf("deleted %d times by the second pass", n)
				}
				swept := 0
				for _, call := range g.asked() {
					if strings.Contains(call, "item:*") {
						swept++
					}
				}
				if swept < 3 { // by the first pass, without the reader, and now
					t.Errorf("swept %d times: %q", swept, g.asked())
				}
				g.wantCursorsAt(5, 5)
				stopped(t, stop)
				stop = g.start() // it is paid
				g.after(14 * time.Minute)
				if n, _ := g.secondDeletes("cart:3"); n != 2 {
					t.Errorf("deleted %d times by the second pass", n)
				}
				stopped(t, stop)
			})
		})
	}
}

// One of which nothing is known owes everything, also when it is taken away.
func TestReaderThatOwesAllIsTakenAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000)
		stop := g.start()
		g.commit(1)
		g.after(time.Minute)
		stopped(t, stop)
		one := g.Readers.Servers
		down := pipelinetest.NewServer("r2", upTo(1000))
		down.Down(true)
		g.Readers.Servers = append(slices.Clone(one), down)
		stop = g.start()
		g.after(12 * time.Minute)
		stopped(t, stop)
		g.Readers.Servers = one
		stop = g.start()
		g.after(13 * time.Minute)
		if calls := g.asked(); !strings.Contains(calls[len(calls)-1], "cart:*") {
			t.Errorf("asked for %q", calls)
		}
		if len(g.over) != 1 || !strings.Contains(g.over[0].Reason, "r2") {
			t.Errorf("told %+v", g.over)
		}
		g.wantCursorsAt(1, 1)
		stopped(t, stop)
	})
}

// A reader that was put out before a failover, which lost some of what the source
// had shown, comes back once it shows the rest.
func TestReaderBackAfterLoss(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000, 0)
		stop := g.start()
		g.commit(1)
		g.after(11 * time.Minute)
		g.wantSecond("cart:1", 1, pipeline.ReleaseWithout)
		g.source.Become("new")
		g.servers[0].Become("r1 as a replica of new")
		for _, s := range append(g.servers, g.source) {
			s.Show(upTo(990))
		}
		g.after(20 * time.Minute)
		g.wantSecond("cart:1", 2, pipeline.ReleaseReaders)
		g.wantCursorsAt(1, 1)
		for _, s := range g.Readers.State() {
			if len(s.Out) > 0 {
				t.Errorf("%s is out: %+v", s.Name, s)
			}
		}
		stopped(t, stop)
	})
}

// A process that begins while the source's address leads to a server that lags
// does not take for lost what that one lacks.
func TestSourceIsAnotherServerFromTheStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 5)
		g.source.Show(upTo(5))
		stop := g.start()
		g.commit(10)
		for i := range 6 {
			g.progress(10)
			g.after(time.Duration(i+1) * 10 * time.Second)
		}
		g.wantSecond("cart:10", 0, "")
		g.servers[0].Show(upTo(10))
		g.after(2 * time.Minute)
		g.wantSecond("cart:10", 1, pipeline.ReleaseReaders)
		stopped(t, stop)
	})
}
