package pipeline_test

import (
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// Of a log that has nothing left, everything is owed to a reader that was added
// and lacks something; nothing waits for a record that may never come.
func TestReaderAddedToAnEmptyLog(t *testing.T) {
	for _, c := range []struct {
		name    string
		replays bool
		has     int
		sweeps  int
	}{
		{name: "live", has: 994, sweeps: 1},
		{name: "replays, all of which it shows", replays: true, has: 500},
		{name: "replays, of which it lacks some", replays: true, has: 449, sweeps: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGated(t, 1000)
				g.Replays = c.replays
				stop := g.start()
				for i := 400; i <= 450; i += 5 { // in holes
					g.commit(i)
				}
				g.after(20 * time.Second)
				stopped(t, stop)
				g.calls = nil
				for restarts := range 2 { // what is known of the past outlives a process that has nothing to do
					g.log.Drop(0, 11)
					stop = g.start()
					g.after(time.Duration(40+20*restarts) * time.Second)
					stopped(t, stop)
				}
				if len(g.asked()) > 0 {
					t.Fatalf("Redis was asked for %q", g.asked())
				}
				g.servers = append(g.servers, pipelinetest.NewServer("r2", upTo(c.has)))
				g.Readers.Servers = append(g.Readers.Servers, g.servers[1])
				stop = g.start()
				g.after(80 * time.Second)
				g.servers[1].Show(upTo(1000))
				g.after(120 * time.Second)
				if n := len(g.asked()); n != c.sweeps {
					t.Errorf("Redis was asked for %q", g.asked())
				}
				if out := g.out[len(g.out)-1]; out.Out || out.Reader != "r2" {
					t.Errorf("the reader is not back: %+v", out)
				}
				stopped(t, stop)
			})
		})
	}
}
