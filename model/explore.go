package model

import "fmt"

// System is what can be explored: an initial state and the steps between
// states. S is compared by value, so it must hold no pointers.
type System[S comparable] struct {
	Init S
	// Steps calls emit for every step that is possible in s. It may emit a state
	// several times, and s itself.
	Steps func(s S, emit Emit[S])
	// Check returns what is wrong with s, nil if nothing is.
	Check func(s S) error
	// Quiet says that in s nothing is left to do. A state without steps that is
	// not quiet is reported: the system is stuck.
	Quiet func(s S) bool
}

// Emit takes one step: who does what, and the state that this leads to.
type Emit[S comparable] func(who, what string, next S)

// Taken is one step of a trace. The first one of a trace is the initial state.
type Taken[S comparable] struct {
	Who, What string
	State     S
}

// Result is what Explore found.
type Result[S comparable] struct {
	States int // states visited
	Quiet  int // of which quiet
	Depth  int // steps on the longest of the shortest ways to a state
	// Err says what is wrong with the last state of Trace, which is a shortest
	// way to it; nil if nothing is wrong with any state.
	Err   error
	Trace []Taken[S]
}

// Explore visits every state that can be reached, nearest first, until Check
// fails for one, or more than limit were visited (which is an error as well).
// It needs memory for two copies of each state.
func Explore[S comparable](sys System[S], limit int) Result[S] {
	e := explorer[S]{System: sys, from: map[S]S{}}
	e.visit(sys.Init, sys.Init)
	for len(e.next) > 0 && e.found.Err == nil {
		level := e.next
		e.next = nil
		for _, s := range level {
			e.expand(s)
			if e.found.Err == nil && len(e.from) > limit {
				e.fail(s, fmt.Errorf("more than %d states", limit))
			}
			if e.found.Err != nil {
				break
			}
		}
		if len(e.next) > 0 {
			e.found.Depth++
		}
	}
	e.found.States = len(e.from)
	return e.found
}

type explorer[S comparable] struct {
	System[S]
	from  map[S]S // every state visited, and the one that it was reached from
	next  []S     // the next level
	found Result[S]
}

func (e *explorer[S]) visit(s, from S) {
	if _, ok := e.from[s]; ok || e.found.Err != nil {
		return
	}
	e.from[s] = from
	e.next = append(e.next, s)
	if err := e.Check(s); err != nil {
		e.fail(s, err)
	}
}

func (e *explorer[S]) expand(s S) {
	dead := true
	e.Steps(s, func(_, _ string, next S) {
		dead = dead && next == s
		e.visit(next, s)
	})
	switch {
	case e.Quiet(s):
		e.found.Quiet++
	case dead:
		e.fail(s, fmt.Errorf("stuck: no step is possible, and something is left to do"))
	}
}

func (e *explorer[S]) fail(s S, err error) {
	if e.found.Err == nil {
		e.found.Err, e.found.Trace = err, e.trace(s)
	}
}

// trace returns the way by which s was first reached. The steps' names are not
// kept with the states: they are asked for again.
func (e *explorer[S]) trace(s S) []Taken[S] {
	var back []S
	for ; s != e.Init; s = e.from[s] {
		back = append(back, s)
	}
	trace := []Taken[S]{{State: e.Init}}
	for i := len(back) - 1; i >= 0; i-- {
		taken := Taken[S]{State: back[i]}
		e.Steps(trace[len(trace)-1].State, func(who, what string, next S) {
			if next == taken.State && taken.Who == "" {
				taken.Who, taken.What = who, what
			}
		})
		trace = append(trace, taken)
	}
	return trace
}
