package pipeline_test

import (
	"slices"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// A sweep that is owed makes its rules untrusted, a gap all of them; the second
// set waits for second sweeps.
func TestWatermarkAndSweeps(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000)
		b := new(pipelinetest.Board)
		g.Watermarks, g.MaxLag = b, 10*time.Second
		g.redis.Inject(slowSweeps(g.bench, func() time.Duration { return 4 * time.Second }))
		g.log.SetGap(0, "another log")
		g.progress(1000)
		stop := g.start()
		g.after(2 * time.Second)
		if got := b.Last(); got.First != "" || got.Second != "" || !slices.Equal(got.Untrusted, []string{"*"}) {
			t.Errorf("posted %+v in a gap", got)
		}
		g.after(6 * time.Second)
		if got := b.Last(); len(got.Untrusted) > 0 || got.First != upTo(1000) || got.Second != "" {
			t.Errorf("posted %+v after the first sweep", got)
		}
		g.after(30 * time.Second)
		if got := b.Last(); len(got.Untrusted) > 0 || got.Second != upTo(1000) {
			t.Errorf("posted %+v after the second sweep", got)
		}
		g.truncate(1001)
		g.progress(1001)
		g.after(32 * time.Second)
		if got := b.Last(); got.First != upTo(1000) || !slices.Equal(got.Untrusted, []string{"item", "category-items"}) {
			t.Errorf("posted %+v while item is swept", got)
		}
		g.after(36 * time.Second)
		if got := b.Last(); got.First != upTo(1001) || len(got.Untrusted) > 0 {
			t.Errorf("posted %+v after the sweep", got)
		}
		stopped(t, stop)
	})
}

// Where sweeps overlap, there is always one that is owed: the sets go on all the
// same, each behind the sweeps before it.
func TestWatermarkWhileSweepsOverlap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000)
		b := new(pipelinetest.Board)
		g.Watermarks, g.MaxLag = b, 10*time.Second
		g.redis.Inject(slowSweeps(g.bench, func() time.Duration { return 4 * time.Second }))
		stop := g.start()
		for i := range 60 {
			g.truncate(i + 1)
			g.progress(i + 1)
			g.after(time.Duration(i+1) * time.Second)
			if i < 29 {
				continue
			}
			got := b.Last()
			if got.First == "" || got.First == upTo(i+1) {
				t.Fatalf("after %d s first is %q", i+1, got.First)
			}
		}
		first, err := gtid.Parse(b.Last().First)
		if err != nil || !first.Has(uuid+":30") || first.Has(uuid+":58") {
			t.Errorf("after a minute first is %s, %v", first, err)
		}
		stopped(t, stop)
	})
}
