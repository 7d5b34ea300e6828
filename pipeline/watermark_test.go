package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

const uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

// upTo is the set of the first n transactions.
func upTo(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%s:1-%d", uuid, n)
}

// gated is a bench with readers.
type gated struct {
	*bench
	source  *pipelinetest.Server
	servers []*pipelinetest.Server
	out     []pipeline.ReaderOutInfo
	stalled []pipeline.StallInfo
}

// newGated makes one whose servers show n transactions each.
func newGated(t *testing.T, shows ...int) *gated {
	g := &gated{bench: newBench(t), source: pipelinetest.NewServer("source", upTo(1000))}
	g.Readers = &pipeline.Readers{Source: g.source, MaxWait: 10 * time.Minute}
	for i, n := range shows {
		s := pipelinetest.NewServer(fmt.Sprintf("r%d", i+1), upTo(n))
		g.servers = append(g.servers, s)
		g.Readers.Servers = append(g.Readers.Servers, s)
	}
	g.Fallback = 30 * time.Second
	g.Hooks.ReaderOut = func(o pipeline.ReaderOutInfo) { lock(g.bench, func() { g.out = append(g.out, o) }) }
	g.Hooks.Stalled = func(s pipeline.StallInfo) { lock(g.bench, func() { g.stalled = append(g.stalled, s) }) }
	return g
}

// start runs the readers and the invalidator.
func (g *gated) start() (stop func() error) {
	readers := g.Readers // a new one: nothing of an earlier process
	inv := pipeline.Invalidator{
		Schema: g.Schema, Deleter: g.Deleter, DeadLetters: g.DeadLetters, Hooks: g.Hooks, Fill: g.Fill, Memory: g.Memory,
		Readers:  &pipeline.Readers{Source: readers.Source, Servers: readers.Servers, MaxWait: readers.MaxWait, Hooks: g.Hooks},
		Fallback: g.Fallback, Gateless: g.Gateless, Watermarks: g.Watermarks, MaxLag: g.MaxLag, Replays: g.Replays,
	}
	g.Readers = inv.Readers
	stopReaders := start(g.t, inv.Readers.Run)
	stopInvalidator := start(g.t, func(ctx context.Context) error { return inv.Run(ctx, g.log.Consumer()) })
	return func() error {
		err := stopInvalidator()
		if e := stopReaders(); err == nil {
			err = e
		}
		return err
	}
}

// commit appends the event of transaction n, which changes cart n.
func (g *gated) commit(n int) {
	g.event(fmt.Sprintf(`"kind":"changes","gtid":"%s:%d","tables":[{"db":"shop","table":"cart","columns":["id"],"rows":[{"after":[%d]}]}]`, uuid, n, n))
}

func (g *gated) progress(n int) {
	g.event(fmt.Sprintf(`"kind":"progress","source":"shop","gtid":%q,"partition":2,"partitions":4`, upTo(n)))
}

func (g *gated) truncate(n int) {
	g.event(fmt.Sprintf(`"kind":"invalidate","gtid":"%s:%d","scopes":[{"db":"shop","table":"item"}],"reason":"TRUNCATE"`, uuid, n))
}

func TestWatermark(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000)
		b := new(pipelinetest.Board)
		g.Watermarks, g.MaxLag = b, 10*time.Second
		stop := g.start()
		g.commit(1)
		g.after(3 * time.Second)
		if len(b.Posts()) > 0 {
			t.Fatalf("posted %+v before any progress", b.Last())
		}
		g.progress(1000)
		g.after(3200 * time.Millisecond)
		want := pipeline.Watermark{Source: "shop", Partition: 2, Partitions: 4, First: upTo(1000), Schema: g.Schema.Hash()}
		if got := b.Last(); !sameMark(got, want) {
			t.Errorf("posted %+v, want %+v", got, want)
		}
		g.after(12 * time.Second) // the second delete is due at 10 s
		want.Second = upTo(1000)
		if got := b.Last(); !sameMark(got, want) {
			t.Errorf("posted %+v, want %+v", got, want)
		}
		if n := len(b.Posts()); n < 9 || n > 13 {
			t.Errorf("%d posts in 9 s", n)
		}

		// The source goes on, and no progress comes: the cache is trusted no longer.
		g.source.Show(upTo(1001))
		g.after(20 * time.Second)
		if got := b.Last(); len(got.Untrusted) > 0 {
			t.Errorf("untrusted after 8 s: %+v", got)
		}
		g.after(26 * time.Second)
		want.Untrusted = []string{"*"}
		if got := b.Last(); !sameMark(got, want) {
			t.Errorf("posted %+v, want %+v", got, want)
		}
		g.progress(1001)
		g.after(27 * time.Second)
		want.First, want.Second, want.Untrusted = upTo(1001), upTo(1001), nil
		if got := b.Last(); !sameMark(got, want) {
			t.Errorf("posted %+v, want %+v", got, want)
		}
		// The source does not answer: nobody knows.
		g.source.Down(true)
		g.after(40 * time.Second)
		if got := b.Last(); !slices.Equal(got.Untrusted, []string{"*"}) {
			t.Errorf("posted %+v without the source", got)
		}
		stopped(t, stop)
	})
}

func sameMark(a, b pipeline.Watermark) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// A Redis that takes no post holds up nothing.
func TestSlowPosts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000)
		b := new(pipelinetest.Board)
		b.Hold(true)
		g.Watermarks, g.MaxLag = b, 10*time.Second
		stop := g.start()
		g.commit(1)
		g.progress(1)
		g.after(15 * time.Second)
		g.wantCalls("0s cart:1", "10s cart:1")
		lock(g.bench, func() {
			if g.retries < 5 {
				t.Errorf("%d posts that were given up are told", g.retries)
			}
		})
		b.Hold(false)
		g.after(20 * time.Second)
		if b.Last().Second != upTo(1) {
			t.Errorf("posted %+v", b.Last())
		}
		stopped(t, stop)
		synctest.Wait()
	})
}

// A reader that never said what it is may be any server.
func TestOutWithoutIdentity(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000, 1000)
		b := new(pipelinetest.Board)
		g.Watermarks, g.MaxLag = b, 10*time.Second
		g.servers[1].Down(true)
		stop := g.start()
		g.commit(1)
		g.progress(1)
		g.after(11 * time.Minute)
		g.wantSecond("cart:1", 1, pipeline.ReleaseWithout)
		if got := b.Last().Out; !slices.Equal(got, []string{"*"}) {
			t.Errorf("out: %q", got)
		}
		stopped(t, stop)
	})
}

// Before second deletes go on without a reader, it was posted that fills must not
// read from it; or nothing could be posted for so long that nobody is trusted.
func TestOutIsPostedBeforeDeletes(t *testing.T) {
	for name, silent := range map[string]time.Duration{"soon": 3 * time.Second, "never": time.Hour} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGated(t, 1000, 0)
				b := new(pipelinetest.Board)
				g.Watermarks, g.MaxLag = b, 10*time.Second
				stop := g.start()
				g.commit(1)
				g.progress(1)
				g.after(9 * time.Minute)
				b.Fail(errors.New("out of order"))
				out := 10 * time.Minute // MaxWait
				g.after(out + min(silent, 9*time.Second))
				g.wantCalls("0s cart:1")
				if silent < time.Hour {
					b.Fail(nil)
				}
				g.after(out + 30*time.Second)
				g.wantSecond("cart:1", 1, pipeline.ReleaseWithout)
				if got := b.Last().Out; silent < time.Hour && !slices.Equal(got, []string{"r2"}) {
					t.Errorf("out: %q", got)
				}
				g.servers[1].Show(upTo(1000))
				g.after(out + time.Minute)
				if got := b.Last().Out; silent < time.Hour && len(got) > 0 {
					t.Errorf("still out: %q", got)
				}
				stopped(t, stop)
			})
		})
	}
}
