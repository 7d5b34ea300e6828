package pipeline_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// Posts that were given up and are carried out late change nothing, whether there
// are newer ones or the pipeline is dead.
func TestLatePosts(t *testing.T) {
	for name, dead := range map[string]bool{"newer post": false, "dead pipeline": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGated(t, 1000)
				b := new(pipelinetest.Board)
				g.Watermarks, g.MaxLag = b, 10*time.Second
				stop := g.start()
				g.progress(1000)
				g.after(3500 * time.Millisecond)
				if _, trusted := b.Read("shop", 2); time.Until(trusted) < 3*time.Second {
					t.Fatalf("trusted for %v", time.Until(trusted))
				}
				b.Hold(true) // it is trusted in what is held
				g.after(8 * time.Second)
				shown := len(b.Posts())
				b.Hold(false)
				if dead {
					stopped(t, stop)
					g.after(16 * time.Second)
				} else {
					defer stopped(t, stop)
					g.truncate(1001) // now "item" is not trusted, for 4 s
					g.redis.Inject(slowSweeps(g.bench, func() time.Duration { return 4 * time.Second }))
					g.after(10500 * time.Millisecond)
					shown = len(b.Posts())
					if got := b.Last().Untrusted; !slices.Contains(got, "item") {
						t.Errorf("untrusted while it is swept: %q", got)
					}
				}
				errs := b.Release()
				for _, err := range errs {
					if !errors.Is(err, pipeline.ErrTurnOver) {
						t.Errorf("a late post: %v", err)
					}
				}
				_, trusted := b.Read("shop", 2)
				if len(errs) < 2 || len(b.Posts()) != shown || dead && time.Until(trusted) > 0 {
					t.Errorf("%d late posts; %d are shown, want %d; trusted for %v", len(errs), len(b.Posts()), shown, time.Until(trusted))
				}
			})
		})
	}
}

// Nothing that is posted was judged before its turn began: trust is counted from
// there.
func TestJudgedInTheTurn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000)
		b := new(pipelinetest.Board)
		g.Watermarks, g.MaxLag = b, 10*time.Second
		turns := 0
		b.AtTurn(func() { // much happens until the poster hears that it is his turn
			if turns > 0 && b.Last().First != upTo(turns) {
				t.Errorf("in turn %d %q was posted, after %q had been handled in it", turns, b.Last().First, upTo(turns))
			}
			turns++
			g.progress(turns)
			time.Sleep(time.Second)
		})
		stop := g.start()
		g.progress(0)
		g.after(10 * time.Second)
		stopped(t, stop)
		if turns < 5 {
			t.Errorf("%d turns", turns)
		}
	})
}
