package pipeline_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// killEach runs f with a log and a source that die at their n-th operation, for
// every n, and says how many there were. The operations of a run without a
// death are given to check, for their order.
func killEach(t *testing.T, want []string, f func(t *testing.T, fail func(op string) error, died func() bool)) {
	for n, more := 1, true; more && !t.Failed(); n++ {
		bubble(t, func(t *testing.T) {
			var mu sync.Mutex
			var ops []string
			fail := func(op string) error {
				mu.Lock()
				defer mu.Unlock()
				if ops = append(ops, op); len(ops) >= n {
					return errDead
				}
				return nil
			}
			died := func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(ops) >= n
			}
			f(t, fail, died)
			more = died()
			if !more && !slices.Equal(ops, want) {
				t.Errorf("operations %q,\nwant %q", ops, want)
			}
			if t.Failed() {
				t.Logf("died at operation %d: %s", n, ops[min(n, len(ops))-1])
			}
		})
	}
}

// runUntil runs the tailer until it is dead or idle.
func (r *rig) runUntil(died func() bool) {
	stop := start(r.t, r.Run)
	for range 20 {
		time.Sleep(100 * time.Millisecond)
		if died() {
			break
		}
	}
	if err := stop(); err != nil && !died() {
		r.t.Errorf("stopped with %v", err)
	}
}

// The first position is stored before anything is read, and with it that
// everything must be invalidated: a death between any two steps loses nothing.
func TestFirstStartSurvivesDeath(t *testing.T) {
	want := []string{"load", "start", "save", "saved", "check", "publish", "append", "ack", "save", "saved", "connect"}
	killEach(t, want, func(t *testing.T, fail func(string) error, died func() bool) {
		r := newRig(t, "")
		r.src.Commit(carts(1)) // before the start: never read
		r.log.Fail = fail
		r.src.Fail = func(op, _ string) error { return fail(op) }
		r.runUntil(died)
		r.log.Fail, r.src.Fail = nil, nil
		dead := len(r.events())
		r.src.Commit(carts(2))
		stop := start(t, r.Run)
		r.wantPosition("src:2")
		stopped(t, stop)
		read := slices.Contains(r.keys(), "cart:2")
		swept := slices.ContainsFunc(r.events()[min(dead, len(r.events())):], func(e *pipeline.Event) bool {
			return slices.Equal(e.Scopes, []pipeline.Scope{pipeline.Everything})
		})
		if !read && !swept {
			t.Errorf("src:2 is lost: %q", r.keys())
		}
		if !slices.Contains(r.keys(), "*.*: first start") {
			t.Errorf("everything was not invalidated: %q", r.keys())
		}
	})
}

// What is owed stays owed until it is durable, and nothing is read before.
func TestPendingUntilDurable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "")
		var acks []func()
		r.log.Ack = func(ack func()) { acks = append(acks, ack) }
		r.src.Fail = func(op, _ string) error {
			if op == "connect" && len(acks) == 1 {
				t.Error("read before the invalidation was durable")
			}
			return nil
		}
		stop := start(t, r.Run)
		settle()
		if c := r.checkpoint(); c.Pending == "" || len(acks) != 1 {
			t.Errorf("stored %+v with %d publish calls on their way", c, len(acks))
		}
		ack := acks[0]
		acks = nil
		ack()
		r.wantPosition("src:0")
		stopped(t, stop)
	})
}

func TestGapInvalidates(t *testing.T) {
	want := []string{"load", "check", "save", "saved", "publish", "append", "ack", "save", "saved", "connect"}
	killEach(t, want, func(t *testing.T, fail func(string) error, died func() bool) {
		r := newRig(t, "src:1")
		for i := range 5 {
			r.src.Commit(carts(i + 1))
		}
		r.src.Purge("src:3", "binlogs purged")
		r.log.Fail = fail
		r.src.Fail = func(op, _ string) error { return fail(op) }
		r.runUntil(died)
		r.log.Fail, r.src.Fail = nil, nil
		r.src.Commit(carts(6))
		stop := start(t, r.Run)
		r.wantPosition("src:6")
		stopped(t, stop)
		ks := r.keys()
		if !slices.Contains(ks, "*.*: binlogs purged") || slices.Contains(ks, "cart:5") {
			t.Errorf("published %q", ks)
		}
		if died() && r.checkpoint().Position != "src:6" || len(r.gaps) > 2 {
			t.Errorf("gaps %q", r.gaps)
		}
	})
}

func TestGapStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:1")
		r.OnGap = pipeline.GapStop
		for range 3 {
			r.src.Commit(carts(1))
		}
		r.src.Purge("src:2", "binlogs purged")
		err := r.Run(t.Context())
		if !errors.Is(err, pipeline.ErrPositionLost) || !strings.Contains(err.Error(), "binlogs purged") {
			t.Errorf("Run = %v", err)
		}
		if c := r.checkpoint(); c.Position != "src:1" || len(r.events()) != 0 {
			t.Errorf("stored %+v, published %q", c, r.keys())
		}
	})
}
