package pipeline_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// A Publisher that gives up ends the tailer, and no later position is stored.
func TestPublisherGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		full := errors.New("record too large")
		n := 0
		r.log.Fail = func(op string) error {
			if op == "append" {
				if n++; n == 2 {
					return full
				}
			}
			return nil
		}
		r.src.Commit(carts(1))
		r.src.Commit(carts(2))
		r.src.Commit(carts(3))
		err := r.Run(t.Context())
		if !errors.Is(err, full) || !errors.Is(err, pipeline.ErrFatal) || !strings.Contains(err.Error(), "src:2") {
			t.Errorf("Run = %v", err)
		}
		if c := r.checkpoint(); c.Position > "src:1" {
			t.Errorf("position %s: src:2 is not durable", c.Position)
		}
	})
}

// A Publish that is refused does not hang the tailer.
func TestPublishRefused(t *testing.T) {
	for _, ops := range []string{"publish", "load", "save", "saved", "publish save load", "start", "check", "connect"} {
		t.Run(ops, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, "")
				left := map[string]int{}
				for op := range strings.FieldsSeq(ops) {
					left[op] = 3
				}
				fail := func(op string) error {
					if left[op]--; left[op] >= 0 {
						return fmt.Errorf("%s is out of luck", op)
					}
					return nil
				}
				r.src.Fail = func(op, _ string) error { return fail(op) }
				r.src.Commit(carts(1))
				r.log.Fail = fail
				stop := start(t, r.Run)
				time.Sleep(time.Minute)
				r.src.Commit(carts(2), carts(3))
				time.Sleep(time.Minute)
				r.wantPosition("src:2")
				r.wantKeys("*.*: first start", "cart:2", "cart:3")
				stopped(t, stop)
			})
		})
	}
}

// A checkpoint that cannot be read is not taken for none.
func TestPositionThatCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "")
		r.log.Fail = func(op string) error {
			if op != "load" {
				t.Errorf("%s after a load that failed", op)
			}
			return pipeline.ErrFatal
		}
		if err := r.Run(t.Context()); !errors.Is(err, pipeline.ErrFatal) {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestStartThatCannotWork(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "")
		r.Start = "nonsense"
		if err := r.Run(t.Context()); !errors.Is(err, pipeline.ErrFatal) {
			t.Errorf("Run = %v", err)
		}
	})
}
