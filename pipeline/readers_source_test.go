package pipeline_test

import (
	"slices"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// What a server shows is a lower bound: neither is lost what it does not admit,
// nor is a pass on time because it admits little.
func TestSourceAdmitsLess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 0)
		b := new(pipelinetest.Board)
		g.Watermarks, g.MaxLag = b, 10*time.Second
		g.source.Show(upTo(2))
		stop := g.start()
		g.commit(1)
		g.progress(1) // late: 2 was shown long ago
		g.after(5 * time.Second)
		g.source.Admit("") // as after a new connection
		g.after(40 * time.Second)
		g.wantSecond("cart:1", 0, "")
		if w := b.Last(); !slices.Equal(w.Untrusted, []string{"*"}) {
			t.Errorf("posted %+v", w)
		}
		g.servers[0].Show(upTo(1))
		g.after(60 * time.Second)
		g.wantSecond("cart:1", 1, pipeline.ReleaseReaders)
		stopped(t, stop)
	})
}

// A gap is owed all that anybody can have read, also what the source did not
// admit to show.
func TestGapWhileSourceAdmitsLess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 6)
		g.log.SetGap(0, "another log")
		g.source.Show(upTo(7))
		g.source.Admit(upTo(2))
		stop := g.start()
		g.after(20 * time.Second)
		g.wantCalls("0s " + sweep)
		g.servers[0].Show(upTo(7))
		g.after(40 * time.Second)
		g.wantCalls("0s "+sweep, "30s "+sweep)
		stopped(t, stop)
	})
}

// Where the source's address leads to another server, what that one lacks may
// have been lost, or it lags: the tailer's progress says which.
func TestSourceIsAnotherServer(t *testing.T) {
	for name, lost := range map[string]bool{"failover": true, "wrong server": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGated(t, 10)
				g.source.Show(upTo(11))
				stop := g.start()
				g.commit(11)
				g.progress(11)
				g.after(500 * time.Millisecond)
				g.source.Become("another")
				g.source.Show(upTo(10))
				g.after(20 * time.Second)
				g.wantSecond("cart:11", 0, "")
				if lost {
					g.progress(10)
				} else {
					g.progress(11)
				}
				g.after(time.Minute)
				if lost {
					g.wantSecond("cart:11", 1, pipeline.ReleaseLost)
				} else {
					g.wantSecond("cart:11", 0, "")
				}
				g.source.Show(upTo(12))
				g.servers[0].Show(upTo(12))
				g.after(2 * time.Minute)
				if !lost {
					g.wantSecond("cart:11", 1, pipeline.ReleaseReaders)
				}
				g.source.Show(upTo(12))
				g.commit(13) // read after the change: by the new server alone
				g.after(2*time.Minute + 15*time.Second)
				g.wantSecond("cart:13", 0, "")
				g.progress(12)
				g.after(3 * time.Minute)
				g.wantSecond("cart:13", 1, pipeline.ReleaseLost)
				stopped(t, stop)
			})
		})
	}
}
