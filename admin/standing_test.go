package admin

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// TestSecondPassStands: a second pass that does not move although something waits
// for it is told by a metric, and after a while by a notice.
func TestSecondPassStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		_, h := NewMetrics(reg)
		r := NewReady()
		h = pipeline.Join(h, r.Hooks())
		at := func(first, second int64) { h.Stored("t/0", pipeline.Cursors{First: first, Second: second}) }
		want := func(seconds float64, notices int) {
			t.Helper()
			if got := sum(t, reg, prefix+"second_pass_standing_seconds"); got != seconds {
				t.Errorf("has stood for %v s, want %v", got, seconds)
			}
			if w := r.Warnings(); len(w) != notices || notices > 0 && !strings.Contains(w[0].Reason, "t/0") {
				t.Errorf("notices %+v, want %d", w, notices)
			}
		}
		h.Owned("t/0", true)
		want(0, 0)
		at(10, 10)
		time.Sleep(time.Hour)
		want(0, 0) // nothing waits
		at(12, 10)
		time.Sleep(10 * time.Minute)
		want(600, 0)
		at(14, 10) // the first pass goes on
		time.Sleep(10 * time.Minute)
		want(1200, 1)
		at(14, 12)
		want(0, 0)
		time.Sleep(time.Minute)
		want(60, 0)
		at(14, 14)
		want(0, 0)
		at(15, 14)
		time.Sleep(time.Hour)
		want(3600, 1)
		h.Owned("t/0", false)
		want(0, 0)
	})
}
