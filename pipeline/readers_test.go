package pipeline_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// secondDeletes returns how often a key was deleted by the second pass, and by
// which rule it was released last.
func (g *gated) secondDeletes(key string) (n int, rel pipeline.Release) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.deleted {
		if d.Pass == pipeline.Second && slices.Contains(d.Keys, key) {
			n, rel = n+1, d.Release
		}
	}
	return n, rel
}

func (g *gated) wantSecond(key string, n int, rel pipeline.Release) {
	g.t.Helper()
	if got, r := g.secondDeletes(key); got != n || n > 0 && r != rel {
		g.t.Errorf("after %v: %s was deleted %d times by the second pass (%s), want %d (%s)", time.Since(g.began), key, got, r, n, rel)
	}
}

// asked returns what Redis was asked for.
func (g *gated) asked() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.calls)
}

// told returns which readers were told to be out, and in again.
func (g *gated) told() []pipeline.ReaderOutInfo {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.out)
}

// A second delete is due fill after the slowest reader shows the change; first
// deletes never wait for that.
func TestSecondDeleteWaitsForReaders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000, 0)
		slow := g.servers[1]
		stop := g.start()
		g.commit(1)
		g.after(20 * time.Second)
		g.commit(2)
		g.after(30 * time.Second)
		g.wantCalls("0s cart:1", "20s cart:2")
		slow.Show(upTo(1))
		g.after(39900 * time.Millisecond)
		g.wantSecond("cart:1", 0, "")
		g.after(40200 * time.Millisecond)
		g.wantSecond("cart:1", 1, pipeline.ReleaseReaders)
		g.after(60 * time.Second)
		g.wantSecond("cart:2", 0, "")
		slow.Show(upTo(2))
		g.after(70200 * time.Millisecond)
		g.wantSecond("cart:2", 1, pipeline.ReleaseReaders)
		g.after(71 * time.Second)
		if c, _ := g.log.Cursors(0); c.First != 2 || c.Second != 2 || !strings.Contains(c.Marks, `"r2":{"server":"r2"}`) {
			t.Errorf("stored %+v", c)
		}
		stopped(t, stop)
	})
}

// The cost is a poll, whatever the number of events, and little while nothing waits.
func TestReadersAreAskedSeldom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 0)
		stop := g.start()
		g.after(60 * time.Second)
		if n := g.servers[0].Asks(); n > 62 {
			t.Errorf("asked %d times in an idle minute", n)
		}
		idle := g.servers[0].Asks()
		for i := range 500 {
			g.commit(i + 1)
		}
		g.after(70 * time.Second)
		if n := g.servers[0].Asks() - idle; n < 100 || n > 210 {
			t.Errorf("asked %d times in 10 s of waiting", n)
		}
		stopped(t, stop)
	})
}

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

func (g *gated) wantCursorsAt(first, second int64) {
	g.t.Helper()
	if c, _ := g.log.Cursors(0); c.First != first || c.Second != second {
		g.t.Errorf("stored %+v, want %d and %d", c, first, second)
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

// What the source has lost is not waited for.
func TestLostTransaction(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 10)
		g.source.Show(upTo(10))
		stop := g.start()
		g.commit(11) // nobody will show it
		g.after(5 * time.Second)
		g.source.Down(true)
		g.after(6 * time.Second)
		g.commit(10)
		g.after(30 * time.Second)
		g.wantSecond("cart:11", 1, pipeline.ReleaseLost)
		g.wantSecond("cart:10", 1, pipeline.ReleaseReaders)
		g.commit(12) // the source does not answer: perhaps it has it
		g.after(60 * time.Second)
		g.wantSecond("cart:12", 0, "")
		g.source.Down(false)
		g.after(80 * time.Second)
		g.wantSecond("cart:12", 1, pipeline.ReleaseLost)
		stopped(t, stop)
	})
}

// Where the source's gate is off, the source may not have it yet.
func TestNotLostWithoutGate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 10)
		g.Gateless = true
		g.source.Show(upTo(10))
		stop := g.start()
		g.commit(11)
		g.after(20 * time.Second) // the commit stalls
		g.source.Show(upTo(11))
		g.servers[0].Show(upTo(11))
		g.after(29 * time.Second)
		g.wantSecond("cart:11", 0, "")
		g.after(31 * time.Second)
		g.wantSecond("cart:11", 1, pipeline.ReleaseReaders)
		stopped(t, stop)
	})
}

// What has no GTID waits for the fallback.
func TestFallback(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000)
		stop := g.start()
		g.change(1)
		g.after(29 * time.Second)
		g.wantSecond("cart:1", 0, "")
		g.after(31 * time.Second)
		g.wantSecond("cart:1", 1, pipeline.ReleaseFallback)
		stopped(t, stop)
	})
	bubble(t, func(t *testing.T) {
		g := newGated(t)
		g.Gateless = true
		stop := g.start()
		g.commit(1)
		g.after(29 * time.Second)
		g.wantSecond("cart:1", 0, "")
		g.after(31 * time.Second)
		g.wantSecond("cart:1", 1, pipeline.ReleaseFallback)
		stopped(t, stop)
	})
}

const fills = `
version: 1
keys:
  - {name: lease, table: shop.cart, key: "lease:{id}", lease: true}
  - {name: short, table: shop.cart, key: "short:{id}", fill: 2s}
  - {name: cart, table: shop.cart, key: "cart:{id}"}
  - {name: long, table: shop.cart, key: "long:{id}", fill: 1m}
`

// Every rule waits for its own fill, and a long one holds up no short one.
func TestFillsOfRules(t *testing.T) {
	for name, servers := range map[string][]int{"readers": {0}, "source only": nil} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGated(t, servers...)
				s, err := keys.Parse("fills.yaml", []byte(fills))
				if err != nil {
					t.Fatal(err)
				}
				g.Schema = s
				stop := g.start()
				for i := range 3 {
					g.after(time.Duration(5*i) * time.Second)
					for _, s := range g.servers {
						s.Show(upTo(i)) // each is shown 5 s after it came
					}
					g.commit(i + 1)
				}
				g.after(15 * time.Second)
				for _, s := range g.servers {
					s.Show(upTo(3))
				}
				g.after(3 * time.Minute)
				shown := 0
				if len(servers) > 0 {
					shown = 5
				}
				for i := range 3 {
					for _, c := range []struct {
						key string
						in  int
					}{{"lease", 0}, {"short", 2}, {"cart", 10}, {"long", 60}} {
						at := g.timesOf(fmt.Sprintf("%s:%d", c.key, i+1))
						want := []int{5 * i, 5*i + shown + c.in}
						if c.in+shown == 0 {
							want = want[:1] // the first was late enough
						}
						if !slices.Equal(at, want) {
							t.Errorf("%s:%d was deleted at %d s, want %d", c.key, i+1, at, want)
						}
					}
				}
				g.wantCursorsAt(3, 3)
				stopped(t, stop)
			})
		})
	}
}

// timesOf returns the seconds at which a key was deleted.
func (g *gated) timesOf(key string) (at []int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.calls {
		f := strings.Fields(c)
		if slices.Contains(f[1:], key) {
			d, err := time.ParseDuration(f[0])
			if err != nil {
				g.t.Fatal(err)
			}
			at = append(at, int(d.Seconds()))
		}
	}
	return at
}

// Second sweeps wait for readers too, and a gap for all that the source shows.
func TestSweepsWaitForReaders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 6)
		g.log.SetGap(0, "another log")
		g.source.Show(upTo(7))
		stop := g.start()
		g.after(5 * time.Second)
		g.source.Show(upTo(8))
		g.truncate(8)
		g.after(20 * time.Second)
		g.servers[0].Show(upTo(7))
		g.after(40 * time.Second)
		g.servers[0].Show(upTo(8))
		g.after(60 * time.Second)
		g.wantCalls("0s "+sweep, "5s category:*:items item:*", "30s "+sweep, "50s category:*:items item:*")
		g.wantCursorsAt(1, 1)
		stopped(t, stop)
	})
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
