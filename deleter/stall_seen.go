package deleter

import (
	"slices"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// trips are the round trips of probes on one connection.
type trips struct {
	sent  time.Time     // when the newest one began
	floor time.Duration // the shortest one
}

// late takes in an answer, and says whether the node may have stood still for longer
// than limit before it, which it has where nothing was answered on the connection
// before.
//
// Between the two moments at which a node carried out two probes there is at most
// the time from the sending of the first to the answer of the second, less the
// shortest way there and back. Where a round trip alone takes about as long as
// limit, the wait for the next probe would make a stall of each: limit is longer
// there.
func (t *trips) late(sent, now time.Time, limit time.Duration) bool {
	trip := now.Sub(sent)
	first := t.sent.IsZero()
	if first || trip < t.floor {
		t.floor = trip
	}
	gap := now.Sub(t.sent) - t.floor
	t.sent = sent
	return first || gap > max(limit, t.floor+2*probeEvery)
}

// maxStalls bounds the stalls of a node that are kept apart.
const maxStalls = 256

// stalls are those of one node, in the order of their ends. They are not changed,
// but replaced, so that they can be handed out.
type stalls []pipeline.Stall

// with returns the stalls and more of them. Where there are too many, neighbours
// are taken together: what lay between two belongs to the stall then.
func (all stalls) with(more ...pipeline.Stall) stalls {
	all = append(slices.Clone(all), more...)
	slices.SortStableFunc(all, func(a, b pipeline.Stall) int { return a.To.Compare(b.To) })
	for len(all) > maxStalls {
		half := all[:0]
		for pair := range slices.Chunk(all, 2) {
			s := pair[len(pair)-1]
			for _, o := range pair {
				if o.From.Before(s.From) {
					s.From = o.From
				}
			}
			half = append(half, s)
		}
		all = half
	}
	return all
}
