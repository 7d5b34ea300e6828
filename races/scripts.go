package main

import (
	"math/rand/v2"
	"time"
)

const large = 1 << 20 // bytes of a large value

// random makes a round's script. Most of it is arranged so that fills are open
// when the write commits; whether they were is counted, not assumed.
//
// A few rounds under a freezing Redis have large values, and few keys then.
func random(rng *rand.Rand, l *lane, bound time.Duration, fault string) (*lane, script) {
	var s script
	if fault == freeze && rng.IntN(8) == 0 {
		s.pad, l = large, l.part(4)
	}
	source := rng.IntN(2) == 0
	s.fills = []fill{{
		at: between(rng, 0, 15*time.Millisecond), hold: between(rng, 40*time.Millisecond, 150*time.Millisecond), replica: source,
	}}
	for range [10]int{0, 0, 0, 0, 0, 1, 1, 1, 2, 3}[rng.IntN(10)] {
		s.fills = append(s.fills, fill{
			at: between(rng, 0, bound), hold: someHold(rng, bound), replica: source != (rng.IntN(3) == 0),
		})
	}
	s.writes = []write{{at: between(rng, 30*time.Millisecond, 70*time.Millisecond), ids: some(rng, l.ids, 0.85)}}
	if s.opened = rng.IntN(4) > 0; s.opened {
		s.writes[0].at = between(rng, 0, 40*time.Millisecond)
	}
	if rng.IntN(5) == 0 {
		s.writes = append(s.writes, write{at: between(rng, 80*time.Millisecond, 400*time.Millisecond), ids: some(rng, l.ids, 0.3)})
	}
	if rng.IntN(20) == 0 {
		s.writes[0].prepared = between(rng, time.Millisecond, 500*time.Millisecond)
	}
	if (fault == stall || fault == lagging) && rng.IntN(4) == 0 {
		s.again = between(rng, 50*time.Millisecond, 300*time.Millisecond)
	}
	return l, s
}

// someHold is mostly short, and always short enough that the SET comes within
// the bound.
func someHold(rng *rand.Rand, bound time.Duration) time.Duration {
	switch rng.IntN(10) {
	case 0:
		return between(rng, 0, bound*6/10)
	case 1, 2, 3:
		return between(rng, 0, bound/4)
	}
	return between(rng, 0, 20*time.Millisecond)
}

// some returns about a share of the ids, at least one.
func some(rng *rand.Rand, ids []int, share float64) []int {
	var chosen []int
	for _, id := range ids {
		if rng.Float64() < share {
			chosen = append(chosen, id)
		}
	}
	if chosen == nil {
		chosen = append(chosen, ids[rng.IntN(len(ids))])
	}
	return chosen
}
