package deleter

import (
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Which answers are taken for a stall, in milliseconds: each probe is sent 20 ms
// after the answer to the one before, or at once where that took longer.
func TestLateAnswers(t *testing.T) {
	begun := time.Now()
	for _, c := range []struct {
		name  string
		trips []int // of the probes
		late  []int // which of them
	}{
		{"near", []int{1, 1, 2, 1}, []int{0}},
		{"a stall, seen by the probe under way", []int{1, 1, 101, 1, 1}, []int{0, 2, 3}},
		{"a stall of half the limit", []int{1, 1, 50, 1, 1}, []int{0}},
		{"a stall that began while an answer was read late", []int{1, 1, 60, 60, 1}, []int{0, 3}},
		{"far away", []int{60, 60, 60, 61, 60}, []int{0}},
		{"far away, and a stall", []int{60, 60, 60, 170, 60, 60}, []int{0, 3, 4}},
		{"farther than the limit", []int{150, 150, 155, 150}, []int{0}},
		{"farther than the limit, and a stall", []int{150, 150, 350, 150, 150}, []int{0, 2, 3}},
		{"the first answer was slow", []int{3000, 1, 1, 120, 1, 1}, []int{0, 1, 3, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all trips
			sent, next := begun, 0
			for i, ms := range c.trips {
				now := sent.Add(time.Duration(ms) * time.Millisecond)
				want := next < len(c.late) && c.late[next] == i
				if want {
					next++
				}
				if got := all.late(sent, now, 100*time.Millisecond); got != want {
					t.Errorf("probe %d, of %d ms: late %v", i, ms, got)
				}
				sent = now
				if ms < 20 {
					sent = now.Add(probeEvery)
				}
			}
		})
	}
}

// However many stalls there are, what is kept is bounded, and no stall is lost.
func TestStallsAreBounded(t *testing.T) {
	begun := time.Now()
	at := func(i int) time.Time { return begun.Add(time.Duration(i) * time.Second) }
	all := stalls{}.with(pipeline.Stall{To: begun})
	for i := range 10_000 {
		before := len(all)
		all = all.with(pipeline.Stall{From: at(3*i + 1), To: at(3*i + 2)})
		if len(all) > maxStalls || len(all) < before/2 {
			t.Fatalf("%d stalls are kept", len(all))
		}
	}
	for i := range 10_000 {
		covered := false
		for _, s := range all {
			covered = covered || !s.From.After(at(3*i+1)) && !s.To.Before(at(3*i+2))
		}
		if !covered {
			t.Fatalf("stall %d is not among %v", i, all)
		}
	}
	if last := all[len(all)-1]; !last.To.Equal(at(3*9_999 + 2)) {
		t.Errorf("the last one is %v", last)
	}
}
