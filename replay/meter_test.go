package replay

import (
	"testing"
	"testing/synctest"
	"time"
)

// A first pass stands still while it has the same records before it.
func TestStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m meter
		for i, step := range []struct {
			first int64
			want  time.Duration // a second after
		}{{0, 0}, {5, time.Second}, {5, 2 * time.Second}, {4, time.Second}, {4, 2 * time.Second}, {0, 0}, {0, 0}, {4, time.Second}} {
			m.backlog(Backlog{First: step.first, Second: 9})
			time.Sleep(time.Second)
			if got := m.report().Still; got != step.want {
				t.Errorf("step %d: still for %v, want %v", i, got, step.want)
			}
		}
	})
}
