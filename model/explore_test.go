package model

import (
	"errors"
	"strings"
	"testing"
)

func always[S any](S) error { return nil }
func busy[S any](S) bool    { return false }
func atRest[S any](S) bool  { return true }

// jugs are one of 3 litres and one of 5, to be filled, emptied and poured into
// each other: 16 states, and 4 litres take 6 steps, as everybody knows.
type jugs struct{ small, big int }

func jugSteps(s jugs, emit Emit[jugs]) {
	emit("small", "is filled", jugs{3, s.big})
	emit("big", "is filled", jugs{s.small, 5})
	emit("small", "is emptied", jugs{0, s.big})
	emit("big", "is emptied", jugs{s.small, 0})
	d := min(s.small, 5-s.big)
	emit("small", "is poured into big", jugs{s.small - d, s.big + d})
	d = min(s.big, 3-s.small)
	emit("big", "is poured into small", jugs{s.small + d, s.big - d})
}

func TestExploreVisitsEveryState(t *testing.T) {
	res := Explore(System[jugs]{Steps: jugSteps, Check: always[jugs], Quiet: atRest[jugs]}, 100)
	if res.Err != nil || res.States != 16 || res.Quiet != 16 {
		t.Errorf("jugs: %+v, want 16 states", res)
	}
	type grid [3]int8
	res2 := Explore(System[grid]{
		Steps: func(s grid, emit Emit[grid]) {
			for i := range s {
				if n := s; n[i] < int8(10*(i+1)) {
					n[i]++
					emit("", "", n)
				}
			}
		},
		Check: always[grid],
		Quiet: func(s grid) bool { return s == grid{10, 20, 30} },
	}, 10_000)
	if res2.Err != nil || res2.States != 11*21*31 || res2.Quiet != 1 || res2.Depth != 60 {
		t.Errorf("grid: %+v, want %d states, 60 deep", res2, 11*21*31)
	}
}

func TestExploreFindsAShortestWay(t *testing.T) {
	res := Explore(System[jugs]{
		Steps: jugSteps,
		Check: func(s jugs) error {
			if s.big == 4 {
				return errors.New("4 litres")
			}
			return nil
		},
		Quiet: busy[jugs],
	}, 100)
	if res.Err == nil || res.Err.Error() != "4 litres" || len(res.Trace) != 7 {
		t.Fatalf("%v, a trace of %d, want 6 steps to 4 litres", res.Err, len(res.Trace))
	}
	for i, step := range res.Trace[1:] {
		found := false
		jugSteps(res.Trace[i].State, func(who, what string, next jugs) {
			found = found || step == Taken[jugs]{who, what, next}
		})
		if !found {
			t.Errorf("step %d is no step: %+v", i+1, step)
		}
	}
}

// lock is two processes with a lock. The seeded bug: looking and taking are two
// steps.
type lock struct {
	taken bool
	at    [2]uint8 // 0 outside, 1 has seen it free, 2 inside
}

func lockSteps(atomic bool) func(lock, Emit[lock]) {
	return func(s lock, emit Emit[lock]) {
		for i := range s.at {
			n := s
			switch {
			case s.at[i] == 0 && !s.taken && atomic:
				n.taken, n.at[i] = true, 2
				emit("", "takes it", n)
			case s.at[i] == 0 && !s.taken:
				n.at[i] = 1
				emit("", "sees it free", n)
			case s.at[i] == 1:
				n.taken, n.at[i] = true, 2
				emit("", "takes it", n)
			case s.at[i] == 2:
				n.taken, n.at[i] = false, 0
				emit("", "leaves", n)
			}
		}
	}
}

func TestExploreFindsASeededBug(t *testing.T) {
	both := func(s lock) error {
		if s.at == [2]uint8{2, 2} {
			return errors.New("both are inside")
		}
		return nil
	}
	if res := Explore(System[lock]{Steps: lockSteps(true), Check: both, Quiet: busy[lock]}, 100); res.Err != nil || res.States != 3 {
		t.Errorf("a good lock: %+v, want 3 states and nothing wrong", res)
	}
	res := Explore(System[lock]{Steps: lockSteps(false), Check: both, Quiet: busy[lock]}, 100)
	if res.Err == nil || len(res.Trace) != 5 {
		t.Errorf("a bad lock: %+v, want a trace of 4 steps", res)
	}
}

// Two processes that take two locks in opposite orders get stuck.
func TestExploreFindsWhereNothingIsPossible(t *testing.T) {
	type locks struct {
		owner [2]uint8 // 0 nobody
		held  [2]uint8 // by each process; 3 once it is done
	}
	steps := func(s locks, emit Emit[locks]) {
		for p := range s.held {
			n := s
			if s.held[p] == 2 {
				for l, o := range s.owner {
					if o == uint8(p+1) {
						n.owner[l] = 0
					}
				}
				n.held[p] = 3
				emit("", "is done", n)
			} else if l := (p + int(s.held[p])) % 2; s.held[p] < 2 && s.owner[l] == 0 {
				n.owner[l] = uint8(p + 1)
				n.held[p]++
				emit("", "takes a lock", n)
			}
			emit("", "looks on", s) // a step that changes nothing is none
		}
	}
	res := Explore(System[locks]{
		Steps: steps, Check: always[locks], Quiet: func(s locks) bool { return s.held == [2]uint8{3, 3} },
	}, 100)
	if res.Err == nil || !strings.Contains(res.Err.Error(), "stuck") || len(res.Trace) != 3 {
		t.Errorf("%+v, want stuck after 2 steps", res)
	}
}

func TestExploreHasALimit(t *testing.T) {
	res := Explore(System[int]{
		Steps: func(s int, emit Emit[int]) { emit("", "counts", s+1) },
		Check: always[int], Quiet: busy[int],
	}, 1000)
	if res.Err == nil || res.States != 1001 {
		t.Errorf("%d states, %v; want an error at 1001", res.States, res.Err)
	}
}
