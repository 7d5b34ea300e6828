package deleter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// postOnce posts in a turn of its own.
func postOnce(ctx context.Context, r *Redis, w pipeline.Watermark, d time.Duration) error {
	turn, err := r.Turn(ctx, w.Source, w.Partition, d)
	if err != nil {
		return err
	}
	return r.Post(ctx, turn, w)
}

const late = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9"

// postHeld makes a post that is given up, and returns when its turn ends.
func postHeld(t *testing.T, r *Redis, d time.Duration) (end time.Time) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	turn, err := r.Turn(ctx, "shop-1", 0, d)
	if err != nil {
		t.Fatal(err)
	}
	end = time.Now().Add(d)
	if err := r.Post(ctx, turn, pipeline.Watermark{Source: "shop-1", Partitions: 8, First: late}); err == nil || errors.Is(err, pipeline.ErrTurnOver) {
		t.Errorf("a post that Redis does not get: %v", err)
	}
	return end
}

var products = map[string]func(testing.TB, ...testenv.RedisOptions) *testenv.Server{"redis": envtest.Redis, "valkey": envtest.Valkey}

// TestHeldPost: a post waits on its way for longer than its poster. It says that all
// is well: a reader that was put out, or a rule that is not trusted, since, would
// not be named, or the dead pipeline would be trusted.
func TestHeldPost(t *testing.T) {
	for name, server := range products {
		t.Run(name, func(t *testing.T) {
			s := server(t, memory)
			h, c := newHolder(t, s.Addr), plain(t, s)
			r := open(t, Config{Addrs: []string{h.Addr().String()}})
			before := pipeline.Watermark{Source: "shop-1", Partitions: 8, First: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7"}
			unchanged := func(when string, before map[string]string) {
				t.Helper()
				if reply := h.release(t); reply != ":0" {
					t.Errorf("%s the post's reply is %q", when, reply)
				}
				if now := posted(t, c); !maps.Equal(now, before) {
					t.Errorf("%s it made %q of %q", when, now, before)
				}
			}
			// Somebody has posted since.
			newer := before
			newer.Untrusted, newer.Out = []string{"item"}, []string{"a server"}
			h.hold("eval")
			postHeld(t, r, time.Hour)
			if err := postOnce(t.Context(), r, newer, time.Hour); err != nil {
				t.Fatal(err)
			}
			unchanged("behind a newer post", posted(t, c))
			// Somebody has begun to, but has not posted yet.
			h.hold("eval")
			postHeld(t, r, time.Hour)
			turn, err := r.Turn(t.Context(), "shop-1", 0, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			unchanged("behind a newer turn", posted(t, c))
			if err := r.Post(t.Context(), turn, newer); err != nil {
				t.Error(err)
			}
			// Nobody has, since the pipeline is dead.
			if err := postOnce(t.Context(), r, before, 400*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			h.hold("eval")
			end := postHeld(t, r, 500*time.Millisecond)
			eventually(t, "the end of trust", func() error {
				if now := posted(t, c); now["trusted 0"] != "" || time.Now().Before(end) {
					return errors.New(now["trusted 0"])
				}
				return nil
			})
			unchanged("after the pipeline's death", posted(t, c))
		})
	}
}

// A post that is late, but not too late, is trusted only for what is left.
func TestHeldPostWithinItsTurn(t *testing.T) {
	s := envtest.Redis(t, memory)
	h, c := newHolder(t, s.Addr), plain(t, s)
	r := open(t, Config{Addrs: []string{h.Addr().String()}})
	h.hold("eval")
	postHeld(t, r, time.Minute)
	left, err := c.PTTL(t.Context(), "doubletap:{shop-1}:turn:0").Result()
	if err != nil || left <= 0 || left > time.Minute-100*time.Millisecond {
		t.Fatalf("%v are left of the turn, %v", left, err)
	}
	if reply := h.release(t); reply != ":1" {
		t.Errorf("reply %q", reply)
	}
	if trusted, err := c.PTTL(t.Context(), "doubletap:{shop-1}:trusted:0").Result(); err != nil || trusted > left || trusted < left-10*time.Second {
		t.Errorf("trusted for %v, %v, where %v were left", trusted, err, left)
	}
}

// What begins a turn may be late, too: it ends the turn at hand, and that is all.
func TestHeldTurn(t *testing.T) {
	s := envtest.Redis(t, memory)
	h, c := newHolder(t, s.Addr), plain(t, s)
	r := open(t, Config{Addrs: []string{h.Addr().String()}})
	h.hold("turn:0")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := r.Turn(ctx, "shop-1", 0, time.Hour); err == nil {
		t.Fatal("a turn of which Redis does not know")
	}
	w := pipeline.Watermark{Source: "shop-1", Partitions: 8, First: late}
	turn, err := r.Turn(t.Context(), "shop-1", 0, time.Hour)
	if reply := h.release(t); err != nil || reply != "+OK" {
		t.Fatal(reply, err)
	}
	if err := r.Post(t.Context(), turn, w); !errors.Is(err, pipeline.ErrTurnOver) {
		t.Error(err)
	}
	if now := posted(t, c); len(now) > 0 {
		t.Errorf("posted %q", now)
	}
	if err := postOnce(t.Context(), r, w, time.Hour); err != nil {
		t.Error(err)
	}
}

// TestPostAfterAPause: the server itself stands still with a post in its socket.
func TestPostAfterAPause(t *testing.T) {
	cluster := envtest.RedisCluster(t)
	c, r := clusterClient(t, cluster), open(t, Config{Addrs: cluster.Addrs()})
	_, owner, _ := slotOf(t, c, cluster, "doubletap:{shop-1}:watermarks")
	w := pipeline.Watermark{Source: "shop-1", Partitions: 8, First: late}
	turn, err := r.Turn(t.Context(), "shop-1", 0, 500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	resume := pauseServer(t, owner)
	ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer cancel()
	if err := r.Post(ctx, turn, w); err == nil || errors.Is(err, pipeline.ErrTurnOver) {
		t.Errorf("a post to a server that stands still: %v", err)
	}
	resume()
	info := plain(t, owner)
	eventually(t, "the late post", func() error {
		stats, err := info.Info(t.Context(), "commandstats").Result()
		if err == nil && infoField(stats, "cmdstat_eval") == "" {
			err = errors.New("it has not come")
		}
		return err
	})
	if now := posted(t, c); len(now) > 0 {
		t.Errorf("it made %q", now)
	}
	eventually(t, "a new post", func() error { return postOnce(t.Context(), r, w, time.Hour) })
	if now := posted(t, c); len(now) != 2 {
		t.Errorf("then there is %q", now)
	}
}

// TestPostWhileASlotMoves: posts go on, but where some of the keys are on one node
// and some on the other: then nothing is posted, and the poster is told.
func TestPostWhileASlotMoves(t *testing.T) {
	cluster := envtest.RedisCluster(t)
	c, r := clusterClient(t, cluster), open(t, Config{Addrs: cluster.Addrs()})
	slot, owner, other := slotOf(t, c, cluster, "doubletap:{shop-1}:watermarks")
	n := 0
	post := func() error {
		n++
		w := pipeline.Watermark{Source: "shop-1", Partitions: 8, First: fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa9429562:%d", n)}
		return postOnce(t.Context(), r, w, time.Hour)
	}
	shows := func(when string, n int) {
		t.Helper()
		if now := posted(t, c); len(now) != 2 || !strings.Contains(now["0"], fmt.Sprintf("429562:%d\"", n)) {
			t.Errorf("%s there is %q, want number %d", when, now, n)
		}
	}
	m := newMover(t, owner, other, slot)
	if err := errors.Join(post(), m.begin(), post()); err != nil {
		t.Fatal(err)
	}
	shows("before any key was moved", 2)
	if _, err := m.some(1); err != nil {
		t.Fatal(err)
	}
	if err := post(); err == nil || !strings.Contains(err.Error(), "TRYAGAIN") {
		t.Errorf("posted while some of the keys are on another node: %v", err)
	}
	if _, err := m.some(10); err != nil {
		t.Fatal(err)
	}
	shows("when all keys were moved", 2)
	if err := post(); err != nil {
		t.Error(err)
	}
	shows("on the new node", 4)
	if err := m.end(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a post to the new owner", post)
	shows("at the end", n)
}
