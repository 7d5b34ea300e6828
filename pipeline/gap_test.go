package pipeline_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

type consumer func(context.Context, func(context.Context, pipeline.Partition) error) error

func (c consumer) Run(ctx context.Context, own func(context.Context, pipeline.Partition) error) error {
	return c(ctx, own)
}

// partition returns the log's partition, owned for as long as the test runs.
func (b *bench) partition() (p pipeline.Partition) {
	stop := start(b.t, func(ctx context.Context) error {
		return b.log.Consumer().Run(ctx, func(ctx context.Context, owned pipeline.Partition) error {
			p = owned
			<-ctx.Done()
			return nil
		})
	})
	b.t.Cleanup(func() { stopped(b.t, stop) })
	synctest.Wait()
	return p
}

// store has an owner before the test's store cursors.
func (b *bench) store(c pipeline.Cursors) {
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	err := b.log.Consumer().Run(ctx, func(ctx context.Context, p pipeline.Partition) error {
		defer cancel()
		return p.Store(ctx, c)
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

type fenced struct{ pipeline.Partition }

func (fenced) Store(context.Context, pipeline.Cursors) error { return pipeline.ErrFenced }

const sweep = "cart:* category:*:items item:*"

// A gap at open: everything is invalidated in both passes, the passes go on
// beside it, and no cursor is stored before the second.
func TestGapAtOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		b.change(1)
		b.log.SetGap(0, "another incarnation")
		b.redis.Set("cart:7", "old")
		b.redis.Set("session:7", "not ours")
		slow := true
		b.redis.Inject(slowSweeps(b, func() time.Duration {
			if slow {
				slow = false
				return 30 * time.Second
			}
			return 0
		}))
		stop := b.start()
		b.after(5 * time.Second)
		b.change(2)
		b.after(29 * time.Second)
		if _, ok := b.log.Cursors(0); ok {
			t.Error("cursors were stored before the gap was mended")
		}
		b.wantCalls("0s cart:1", "5s cart:2", "10s cart:1", "15s cart:2")
		b.after(32 * time.Second)
		// The second is due 10 s after the gap was found, which is over by then.
		b.wantCalls("0s cart:1", "5s cart:2", "10s cart:1", "15s cart:2", "30s "+sweep, "30s "+sweep)
		b.wantCursors(2, 2)
		if !slices.Equal(b.redis.Keys(), []string{"session:7"}) {
			t.Errorf("left %q", b.redis.Keys())
		}
		if len(b.over) != 1 || b.over[0].Scope != pipeline.Everything || b.over[0].Reason != "another incarnation" {
			t.Errorf("reported %+v", b.over)
		}
		stopped(t, stop)
	})
}

// slowSweeps logs calls as the bench does, and sweeps take their time.
func slowSweeps(b *bench, wait func() time.Duration) func(context.Context, pipelinetest.DeleteCall) error {
	return func(ctx context.Context, c pipelinetest.DeleteCall) error {
		if len(c.Patterns) > 0 {
			select {
			case <-time.After(wait()):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.calls = append(b.calls, time.Since(b.began).Round(time.Second).String()+" "+strings.Join(append(c.Keys, c.Patterns...), " "))
		return nil
	}
}

// A gap is cleared also where no record follows, and shows until it is mended.
func TestGapInEmptyLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		b.log.SetGap(0, "another incarnation")
		stop := b.start()
		b.after(8 * time.Second)
		stopped(t, stop) // too early
		stop = b.start()
		b.after(19 * time.Second)
		b.wantCalls("0s "+sweep, "8s "+sweep, "18s "+sweep)
		stopped(t, stop)
		b.wantCursors(0, 0)
		stop = b.start()
		b.after(60 * time.Second)
		b.wantCalls("0s "+sweep, "8s "+sweep, "18s "+sweep)
		stopped(t, stop)
	})
}

// bySecond returns what Redis was asked for in each second, in no order.
func (b *bench) bySecond() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	var words []string
	now := ""
	for _, c := range append(b.calls, "") {
		when, what, _ := strings.Cut(c, " ")
		if when != now && now != "" {
			slices.Sort(words)
			out = append(out, now+" "+strings.Join(slices.Compact(words), " "))
			words = nil
		}
		now = when
		words = append(words, strings.Fields(what)...)
	}
	return strings.Join(out, "; ")
}

// Retention takes records that a pass has not handled.
func TestRetentionTookRecords(t *testing.T) {
	for _, c := range []struct {
		name    string
		cursors pipeline.Cursors
		drop    int64
		want    string
	}{
		{"of the first pass", pipeline.Cursors{First: 2, Second: 2}, 4, "0s cart:* cart:4 cart:5 category:*:items item:*; 10s cart:* cart:4 cart:5 category:*:items item:*"},
		{"of the second pass", pipeline.Cursors{First: 5, Second: 1}, 3, "0s cart:* cart:5 category:*:items item:*; 10s cart:* cart:3 cart:4 cart:5 category:*:items item:*"},
		{"of none", pipeline.Cursors{First: 5, Second: 4}, 4, "0s cart:5; 10s cart:4 cart:5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t)
				for i := range 6 {
					b.change(i)
				}
				b.store(c.cursors)
				b.log.Drop(0, c.drop)
				stop := b.start()
				b.after(9 * time.Second)
				if got, _ := b.log.Cursors(0); strings.Contains(c.want, "*") && got.Second != c.cursors.Second {
					t.Errorf("stored %+v before the gap was mended", got)
				}
				b.after(20 * time.Second)
				if got := b.bySecond(); got != c.want {
					t.Errorf("Redis was asked for\n%s, want\n%s", got, c.want)
				}
				b.wantCursors(6, 6)
				stopped(t, stop)
			})
		})
	}
}

// shortened is a partition whose log loses its tail, once, and goes on with
// other records from there.
type shortened struct {
	pipeline.Partition
	lost atomic.Pointer[pipeline.LogGapError]
}

func (s *shortened) Read(ctx context.Context, from int64) (pipeline.Fetch, error) {
	if lost := s.lost.Load(); lost != nil && from >= lost.From {
		s.lost.Store(nil)
		return pipeline.Fetch{}, lost
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return s.Partition.Read(ctx, from)
}

func TestLogLostItsTail(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		for i := range 6 {
			b.change(i)
		}
		p := &shortened{Partition: b.partition()}
		stop := start(t, func(ctx context.Context) error {
			return b.Run(ctx, consumer(func(ctx context.Context, own func(context.Context, pipeline.Partition) error) error {
				return own(ctx, p)
			}))
		})
		b.after(5500 * time.Millisecond)
		b.wantCursors(6, 0)
		p.lost.Store(&pipeline.LogGapError{From: 6, Start: 4}) // 4 and 5 are other records now
		b.after(12 * time.Second)
		b.wantCursors(6, 0) // not lowered before everything was invalidated twice
		b.after(40 * time.Second)
		b.wantCursors(6, 6)
		sweeps, again := 0, 0
		for _, c := range b.calls {
			if strings.HasSuffix(c, sweep) {
				sweeps++
			}
			if strings.HasSuffix(c, "s cart:4 cart:5") {
				again++
			}
		}
		if sweeps != 2 || again != 2 {
			t.Errorf("Redis was asked for %q", b.calls)
		}
		stopped(t, stop)
	})
}
