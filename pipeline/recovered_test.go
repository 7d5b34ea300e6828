package pipeline_test

import (
	"slices"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// What was told to fail is told to work again, once.
func TestRecovered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		var told []string
		b.Hooks.Recovered = func(op string, failures int) {
			lock(b, func() {
				if failures > 0 {
					told = append(told, op)
				}
			})
		}
		b.fail = func(pipelinetest.DeleteCall) error {
			if time.Since(b.began) < time.Second {
				return errFlaky
			}
			return nil
		}
		b.change(1)
		stop := b.start()
		b.after(time.Minute)
		stopped(t, stop)
		if !slices.Equal(told, []string{"first delete"}) {
			t.Errorf("told %q", told)
		}
	})
}
