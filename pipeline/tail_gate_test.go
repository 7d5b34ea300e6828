package pipeline_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

func TestGateHolds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		var held []time.Duration
		r.Hooks.Held = func(h pipeline.HeldInfo) { held = append(held, h.Held) }
		r.src.Commit() // no rows: the gate is not asked
		stop := start(t, r.Run)
		r.wantPosition("src:1")
		r.gate.Hold()
		r.src.Commit()
		r.src.Commit(pipeline.Batch{}, carts(1), carts(2))
		r.wantPosition("src:2")
		r.wantKeys()
		r.gate.Release()
		r.wantPosition("src:3")
		r.wantKeys("cart:1", "cart:2")
		r.gate.Hold()
		r.src.Commit(carts(3))
		r.wantPosition("src:3")
		r.gate.Release()
		r.wantPosition("src:4")
		if p := r.gate.Passed(); !slices.Equal(p, []string{"src:3", "src:4"}) {
			t.Errorf("the gate was asked for %v", p)
		}
		if !slices.Equal(held, []time.Duration{time.Second, time.Second}) {
			t.Errorf("held for %v", held)
		}
		stopped(t, stop)
	})
}

func TestGateOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		r.Gate = nil
		r.src.Commit(carts(1))
		stop := start(t, r.Run)
		r.wantPosition("src:1")
		r.wantKeys("cart:1")
		stopped(t, stop)
	})
}

type brokenGate struct{ n int }

func (g *brokenGate) Wait(context.Context, pipeline.Txn) error {
	if g.n++; g.n < 3 {
		return errors.New("another history")
	}
	return nil
}

// A gate that cannot say makes the tailer look at the source anew.
func TestGateFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		r.Gate = new(brokenGate)
		checks := 0
		r.src.Fail = func(op, _ string) error {
			if op == "check" {
				checks++
			}
			return nil
		}
		r.src.Commit(carts(1))
		stop := start(t, r.Run)
		r.wantPosition("src:1")
		r.wantKeys("cart:1")
		if checks != 3 {
			t.Errorf("%d checks, want 3", checks)
		}
		stopped(t, stop)
	})
}
