package pipeline

import (
	"slices"
	"time"
)

// Stall is a time in which a node of Redis may have stood still: it did not begin
// before From, and it was over at To. The zero From is that of a node of which
// nothing is known before its first answer.
type Stall struct{ From, To time.Time }

// Stalls are the stalls of each node, in the order of their ends.
type Stalls [][]Stall

// stallsInARow is how many stalls may hold up a SET one after the other. Without a
// bound, a Redis that stands still for a moment once in each fill would have every
// second delete repeated for ever.
const stallsInARow = 3

// over returns when no SET can run any more that was to run within fill of a time:
// a node that stands still before that gives it until fill after the stall.
func (all Stalls) over(at time.Time, fill time.Duration) time.Time {
	latest := at.Add(fill)
	for _, node := range all {
		end := at.Add(fill)
		for range stallsInARow {
			next := longest(node, at, end).Add(fill)
			if !next.After(end) {
				break
			}
			end = next
		}
		if end.After(latest) {
			latest = end
		}
	}
	return latest
}

// longest returns the latest end of a stall that began by a time and was not over
// at an earlier one; the zero time if there is none.
func longest(node []Stall, after, began time.Time) time.Time {
	for _, s := range slices.Backward(node) {
		if !s.To.After(after) {
			break
		}
		if !s.From.After(began) {
			return s.To
		}
	}
	return time.Time{}
}

// newest returns the end of the newest stall; the zero time if there is none.
func (all Stalls) newest() (end time.Time) {
	for _, node := range all {
		if n := len(node); n > 0 && node[n-1].To.After(end) {
			end = node[n-1].To
		}
	}
	return end
}
