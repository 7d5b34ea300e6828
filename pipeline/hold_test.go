package pipeline_test

import (
	"slices"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// A gate that stays shut is told while it is, and once when it no longer is.
func TestAHoldIsToldWhileItLasts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		var told []time.Duration
		r.Hooks.Holding = func(h pipeline.HeldInfo) { told = append(told, h.Held.Round(time.Second)) }
		stop := start(t, r.Run)
		r.src.Commit(carts(1)) // at once: nothing to tell
		r.wantPosition("src:1")
		r.gate.Hold()
		r.src.Commit(carts(2))
		time.Sleep(3500 * time.Millisecond)
		r.gate.Release()
		r.wantPosition("src:2")
		if want := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 0}; !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
		told = nil
		r.gate.Hold()
		r.src.Commit(carts(3))
		time.Sleep(1500 * time.Millisecond)
		stopped(t, stop) // the gate is left without an answer
		if want := []time.Duration{time.Second, 0}; !slices.Equal(told, want) {
			t.Errorf("stopped: told %v, want %v", told, want)
		}
	})
}
