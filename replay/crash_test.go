package replay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
)

// TestKilledAnywhere kills a replay before and after each thing that it does, and
// lets a second process finish it: nothing is left out, and at most one chunk is
// published twice.
func TestKilledAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		whole := &life{}
		w := newWorld(t, 7)
		if _, err := w.live(t.Context(), whole); err != nil {
			t.Fatal(err)
		}
		if redone := w.check(); redone != 0 || len(w.published) != w.said() {
			t.Fatalf("%d redone and %d published without a kill", redone, len(w.published))
		}
		redoneOnce := false
		for at := 1; at <= whole.ops; at++ {
			for _, after := range []bool{false, true} {
				w := newWorld(t, 7)
				if _, err := w.live(t.Context(), &life{dieAt: at, after: after}); err == nil && !(at == whole.ops && after) {
					t.Fatalf("killed at %d and yet done", at)
				}
				sum, err := w.live(t.Context(), &life{})
				if err != nil || sum.Result != "done" {
					t.Fatalf("killed at %d (%v): the second process: %+v, %v", at, after, sum, err)
				}
				redone := w.check()
				if redone > 1 || int64(redone) > sum.ChunksRedone || sum.ChunksRedone > 1 {
					t.Errorf("killed at %d (%v): %d chunks redone, the summary says %d", at, after, redone, sum.ChunksRedone)
				}
				if sum.Rows != 21 || sum.Chunks != 7 || sum.Keys != int64(3*w.said()) {
					t.Errorf("killed at %d (%v): %+v", at, after, sum)
				}
				redoneOnce = redoneOnce || redone == 1
			}
		}
		if !redoneOnce {
			t.Error("no kill cost a chunk: none came between publishing and storing")
		}
	})
}

// TestKilledTenTimes: ten kills cost at most ten chunks.
func TestKilledTenTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t, 40)
			w.old, w.schema = parse(t, itemRule), parse(t, itemRule, `{name: more, table: shop.item, key: "more:{id}"}`)
			kills := 0
			for ; kills < 10; kills++ {
				if _, err := w.live(t.Context(), &life{dieAt: 1 + rng.IntN(12), after: rng.IntN(2) == 0}); err == nil {
					break
				}
			}
			sum, err := w.live(t.Context(), &life{})
			if err != nil {
				t.Fatal(err)
			}
			if redone := w.check(); redone > kills || int64(redone) > sum.ChunksRedone || sum.ChunksRedone > int64(kills) {
				t.Errorf("seed %d: %d kills, %d chunks redone, the summary says %d", seed, kills, redone, sum.ChunksRedone)
			}
		}
	})
}

// TestStoppedAnywhere ends the context at each operation: the replay stops at a
// safe point, and no chunk is done again when it goes on.
func TestStoppedAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		whole := &life{}
		if _, err := newWorld(t, 7).live(t.Context(), whole); err != nil {
			t.Fatal(err)
		}
		stopped := 0
		for at := 1; at <= whole.ops; at++ {
			w := newWorld(t, 7)
			ctx, cancel := context.WithCancel(t.Context())
			sum, err := w.live(ctx, &life{at: func(op int) {
				if op == at {
					cancel()
				}
			}})
			cancel()
			switch {
			case errors.Is(err, ErrStopped) && sum.Result == "stopped":
				stopped++
			case err != nil || sum.Result != "done": // the context ended behind the last question
				t.Fatalf("stopped at %d: %+v, %v", at, sum, err)
			}
			if sum, err = w.live(t.Context(), &life{}); err != nil || sum.ChunksRedone != 0 {
				t.Fatalf("stopped at %d: resumed: %+v, %v", at, sum, err)
			}
			if redone := w.check(); redone != 0 {
				t.Errorf("stopped at %d: %d chunks redone", at, redone)
			}
		}
		if stopped < whole.ops/2 {
			t.Errorf("stopped %d times of %d", stopped, whole.ops)
		}
	})
}

// TestDoneIsDone: a replay that is done does nothing when it is resumed.
func TestDoneIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		if _, err := w.live(t.Context(), &life{}); err != nil {
			t.Fatal(err)
		}
		l := &life{}
		sum, err := w.live(t.Context(), l)
		if err != nil || sum.Result != "done" || sum.Phase != Done || l.ops != 0 {
			t.Errorf("%+v, %v, %d operations", sum, err, l.ops)
		}
	})
}

// TestSourceFails: a replay whose source cannot go on says why, and can be resumed.
func TestSourceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		broken := errors.New("the table is gone")
		all := w.chunks
		w.chunks = all[:2]
		s, err := ResumeState(w.dir)
		if err != nil {
			t.Fatal(err)
		}
		l := &life{}
		r := &Run{Source: failingSource{&chunksSource{l, w.chunks}, broken}, Target: memoryTarget{l, &w.published, &w.behind}, State: s, Schema: w.schema}
		sum, err := r.Do(t.Context())
		if !errors.Is(err, broken) || sum.Result != "failed" || sum.Error == "" || sum.Phase != Reading {
			t.Errorf("%+v, %v", sum, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		w.chunks = all
		if sum, err := w.live(t.Context(), &life{}); err != nil || sum.ChunksRedone != 0 {
			t.Errorf("resumed: %+v, %v", sum, err)
		}
		if redone := w.check(); redone != 0 {
			t.Errorf("%d chunks redone", redone)
		}
	})
}

type failingSource struct {
	Source
	err error
}

func (s failingSource) Read(ctx context.Context, from Cursor, fn func(context.Context, Chunk) error) error {
	if err := s.Source.Read(ctx, from, fn); err != nil {
		return err
	}
	return fmt.Errorf("read: %w", s.err)
}
