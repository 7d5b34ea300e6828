package pipeline_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// probed is a Redis that is watched: probes are answered 100 ms after they were
// asked for.
type probed struct {
	*pipelinetest.Redis
	mu    sync.Mutex
	seen  []pipeline.Stall
	calls int
}

func (p *probed) Calm(ctx context.Context, at time.Time) (pipeline.Stalls, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(100*time.Millisecond - time.Since(at)):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if len(p.seen) == 0 {
		p.seen = []pipeline.Stall{{To: at}} // watching began
	}
	return pipeline.Stalls{slices.Clone(p.seen)}, nil
}

// stall says that one has just ended.
func (p *probed) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, pipeline.Stall{From: time.Now(), To: time.Now()})
}

func newProbed(t *testing.T) (*gated, *probed) {
	g := newGated(t, 0)
	p := &probed{Redis: g.redis}
	g.Deleter = p
	return g, p
}

// A second delete that was sent less than fill after the end of a stall does not
// count, and is repeated fill after it (H18).
func TestStall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, p := newProbed(t)
		stop := g.start()
		g.after(20 * time.Second)
		g.commit(1)
		g.servers[0].Show(upTo(1))
		g.after(30*time.Second - 10*time.Millisecond)
		p.stall() // while the second delete is sent; nobody has noticed yet
		g.after(31 * time.Second)
		g.wantSecond("cart:1", 1, pipeline.ReleaseReaders)
		g.wantCursorsAt(1, 0)
		g.mu.Lock()
		if len(g.stalled) != 1 || g.stalled[0].Keys != 1 {
			t.Errorf("told %+v", g.stalled)
		}
		g.mu.Unlock()
		g.after(35 * time.Second)
		p.stall() // known only when the next delete is confirmed
		g.after(41 * time.Second)
		g.wantSecond("cart:1", 2, pipeline.ReleaseReaders)
		g.wantCursorsAt(1, 0)
		g.after(44 * time.Second)
		g.wantSecond("cart:1", 2, pipeline.ReleaseReaders)
		g.after(46 * time.Second)
		g.wantSecond("cart:1", 3, pipeline.ReleaseReaders)
		g.after(47 * time.Second)
		g.wantCursorsAt(1, 1)
		stopped(t, stop)
	})
}

// A process that has just begun to watch does not know what was before.
func TestStallBeforeTheStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := newProbed(t)
		g.commit(1)
		g.servers[0].Show(upTo(1))
		stop := g.start()
		g.after(20 * time.Second)
		g.wantCursorsAt(1, 1)
		if at := g.timesOf("cart:1"); len(at) != 2 || at[1] < 10 {
			t.Errorf("deleted at %d s", at)
		}
		stopped(t, stop)
	})
}

// A late first delete is judged like a second one.
func TestStallAndLateFirstDelete(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, p := newProbed(t)
		g.fail = func(pipelinetest.DeleteCall) error {
			if time.Since(g.began) < 12*time.Second {
				return errFlaky
			}
			return nil
		}
		g.commit(1)
		g.servers[0].Show(upTo(1))
		stop := g.start()
		g.after(10*time.Second - 10*time.Millisecond)
		p.stall() // noticed only when the delete is confirmed
		g.after(19 * time.Second)
		g.wantCursorsAt(1, 0)
		g.after(22 * time.Second)
		g.wantCursorsAt(1, 1)
		if at := g.timesOf("cart:1"); len(at) != 2 || at[1] < 19 || at[1]-at[0] > 9 {
			t.Errorf("deleted at %d s", at)
		}
		stopped(t, stop)
	})
}

// A stall that begins when the time of all SETs is over does no harm.
func TestStallBehindFill(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, p := newProbed(t)
		g.Readers.Servers = nil
		g.fail = func(pipelinetest.DeleteCall) error {
			if at := time.Since(g.began); at > 25*time.Second && at < 38*time.Second {
				return errFlaky
			}
			return nil
		}
		stop := g.start()
		g.after(20 * time.Second)
		g.commit(1) // to be deleted again at 30 s; Redis takes it from 38 s on
		g.after(35 * time.Second)
		p.stall()
		g.after(70 * time.Second) // it has been tried again by then, and made
		g.wantCursorsAt(1, 1)
		if at := g.timesOf("cart:1"); len(at) != 2 || at[1] < 38 {
			t.Errorf("deleted at %d s", at)
		}
		stopped(t, stop)
	})
}

// A Redis that stands still for a moment once in each fill costs each key some more
// deletes, and does not hold up the second pass for ever.
func TestStallsForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, p := newProbed(t)
		g.Memory = 4096 // most is read again
		stop := g.start()
		g.after(20 * time.Second)
		for i := range 100 {
			g.commit(i + 1)
			g.after(20*time.Second + time.Duration(i+1)*100*time.Millisecond)
		}
		g.servers[0].Show(upTo(100))
		for at := 31 * time.Second; at < 10*time.Minute; at += 8 * time.Second {
			g.after(at)
			p.stall()
		}
		g.wantCursorsAt(100, 100)
		for i := range 100 {
			if n, _ := g.secondDeletes("cart:" + number(i+1).Text); n < 1 || n > 2*5 {
				t.Errorf("cart:%d was deleted %d times by the second pass", i+1, n)
			}
		}
		stopped(t, stop)
	})
}

// Leases do not care about stalls.
func TestStallAndLeases(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, p := newProbed(t)
		s, err := keys.Parse("fills.yaml", []byte(`{version: 1, keys: [{name: lease, table: shop.cart, key: "lease:{id}", lease: true}]}`))
		if err != nil {
			t.Fatal(err)
		}
		g.Schema = s
		stop := g.start()
		g.after(20 * time.Second)
		p.stall()
		g.commit(1)
		g.servers[0].Show(upTo(1))
		g.after(22 * time.Second)
		g.wantCursorsAt(1, 1)
		stopped(t, stop)
	})
}

// Many deletes are confirmed by few probes, and hold up no other.
func TestConfirmsTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, p := newProbed(t)
		stop := g.start()
		for i := range 500 {
			g.after(15*time.Second + time.Duration(i)*time.Millisecond)
			g.commit(i + 1)
			g.servers[0].Show(upTo(i + 1))
		}
		g.after(30 * time.Second)
		g.wantCursorsAt(500, 500)
		stopped(t, stop)
		if p.calls > 15 {
			t.Errorf("%d probes for 500 deletes", p.calls)
		}
	})
}

// Sweeps are judged too.
func TestStallAndSweeps(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, p := newProbed(t)
		stop := g.start()
		g.after(20 * time.Second)
		g.truncate(1)
		g.servers[0].Show(upTo(1))
		g.after(30*time.Second - 10*time.Millisecond)
		p.stall()
		g.after(32 * time.Second)
		g.wantCursorsAt(1, 0)
		g.after(45 * time.Second)
		g.wantCalls("20s category:*:items item:*", "30s category:*:items item:*", "40s category:*:items item:*")
		g.wantCursorsAt(1, 1)
		stopped(t, stop)
	})
}

// What did not fit is read again, and confirmed like the rest.
func TestConfirmsWithLittleMemory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := newProbed(t)
		g.Memory = 5000
		stop := g.start()
		g.after(12 * time.Second)
		for i := range 300 {
			g.after(12*time.Second + time.Duration(i)*100*time.Millisecond)
			g.commit(i + 1)
			g.servers[0].Show(upTo(i + 1))
		}
		g.after(2 * time.Minute)
		g.wantCursorsAt(300, 300)
		for i := range 300 {
			if n, _ := g.secondDeletes("cart:" + number(i+1).Text); n == 0 {
				t.Fatalf("cart:%d was not deleted again", i+1)
			}
		}
		stopped(t, stop)
	})
}
