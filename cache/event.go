package cache

import "sync/atomic"

// Event is something that happened to one key of a Get.
type Event int

// What can happen. A Get of one key is exactly one of Hit, Miss, Joined or a
// bypass (Busy, Unreachable, Untrusted, Awaited), unless it fails before.
const (
	Hit      Event = iota // the value, or that there is no row, was in the cache
	Miss                  // this call took the lease and filled
	Joined                // another call of this process was filling
	Waited                // another process was filling: waited for it (then it is a Hit, or Busy)
	Stored                // a fill was stored
	Revoked               // a fill was not stored: a delete, or time, had ended its lease
	Unkept                // a fill was not stored: Redis did not answer in time
	Diverted              // the load read the primary, because Options.Fills leads to a server that is out
	Foreign               // the key held what is not of this protocol; it was deleted

	Busy        // bypass: another process was still filling
	Unreachable // bypass: Redis did not answer in time, or answered with an error
	Untrusted   // bypass: nobody vouches that deletes arrive in time
	Awaited     // bypass: the invalidators have not yet reached the caller's token
	Overload    // a bypass that was refused: too many loads

	events // how many there are
)

var eventNames = [events]string{
	"hit", "miss", "joined", "waited", "stored", "revoked", "unkept", "diverted", "foreign",
	"busy", "unreachable", "untrusted", "awaited", "overload",
}

// String returns the event's name, for a metric's label.
func (e Event) String() string { return eventNames[e] }

type counters [events]atomic.Int64

// Stats returns how often each event happened, all rules together.
func (c *Client) Stats() map[Event]int64 {
	all := make(map[Event]int64, events)
	for e := range events {
		all[e] = c.counts[e].Load()
	}
	return all
}

// note counts what happened to keys of one rule.
func (c *Client) note(e Event, list ...Key) {
	c.counts[e].Add(int64(len(list)))
	if c.o.OnEvent != nil {
		for _, k := range list {
			c.o.OnEvent(k.rule.Name(), e)
		}
	}
}
