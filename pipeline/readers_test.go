package pipeline_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
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

func (g *gated) wantCursorsAt(first, second int64) {
	g.t.Helper()
	if c, _ := g.log.Cursors(0); c.First != first || c.Second != second {
		g.t.Errorf("stored %+v, want %d and %d", c, first, second)
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
		g.after(17 * time.Second) // more than ten seconds behind, the tailer does not vouch for it
		g.progress(10)
		g.after(30 * time.Second)
		g.wantSecond("cart:11", 1, pipeline.ReleaseLost)
		g.wantSecond("cart:10", 1, pipeline.ReleaseReaders)
		g.commit(12) // the source does not answer: perhaps it has it
		g.after(60 * time.Second)
		g.wantSecond("cart:12", 0, "")
		g.progress(10)
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
