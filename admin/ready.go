package admin

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Condition is one thing that must hold for a process to be ready.
type Condition struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"` // why it does not hold
}

// Ready is the list of conditions behind /readyz. It is safe for concurrent use.
type Ready struct {
	mu       sync.Mutex
	reasons  map[string]string // by condition; "" where it holds
	trouble  map[string]trouble
	warnings map[string]string          // by name
	out      map[string]map[string]bool // partitions of which a reader is out, by reader
	standing *standing
}

// trouble is an operation that fails and is tried again.
type trouble struct {
	reason string
	until  time.Time // believed until then, unless told again
	replay bool      // only a notice: live changes are handled
}

// NewReady returns a list of conditions that do not hold yet.
func NewReady(names ...string) *Ready {
	r := &Ready{
		reasons: map[string]string{}, trouble: map[string]trouble{},
		warnings: map[string]string{}, out: map[string]map[string]bool{}, standing: newStanding(),
	}
	for _, n := range names {
		r.reasons[n] = "starting"
	}
	return r
}

// Set says why a condition does not hold, or with "" that it does.
func (r *Ready) Set(name, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reasons[name] = reason
}

// Conditions returns all conditions by name, and whether all hold.
func (r *Ready) Conditions() (all []Condition, ready bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all, ready = []Condition{}, true
	for name, reason := range r.reasons {
		all = append(all, Condition{name, reason == "", reason})
		ready = ready && reason == ""
	}
	for op, t := range r.trouble {
		if time.Now().After(t.until) {
			delete(r.trouble, op)
			continue
		}
		if !t.replay {
			all = append(all, Condition{op, false, t.reason})
			ready = false
		}
	}
	slices.SortFunc(all, func(a, b Condition) int { return cmp.Compare(a.Name, b.Name) })
	return all, ready
}

// Partitions is the condition that the log has said which partitions are this
// process's. Set it where that is waited for; [Ready.Hooks] ends it.
const Partitions = "partitions"

// A failure is told again within some seconds while it lasts; not everything that
// fails says when it works again.
const (
	troubleAttempts = 3 // one failure or two are no trouble yet
	troubleLasts    = 10 * time.Second
)

// Hooks makes what is tried again and again a condition that does not hold, from
// its third failure until it works again, or until 10 s after the last one.
func (r *Ready) Hooks() pipeline.Hooks {
	return pipeline.Join(r.readerHooks(), r.troubleHooks(false), r.standing.hooks())
}

// ReplayHooks are for replayed events: what fails there, and a reader that is
// out, is a notice. No condition waits for a replay.
func (r *Ready) ReplayHooks() pipeline.Hooks {
	return pipeline.Join(r.outHooks(), r.troubleHooks(true))
}

func (r *Ready) troubleHooks(replay bool) pipeline.Hooks {
	name := func(op string) string {
		if replay {
			return "replay: " + op
		}
		return op
	}
	return pipeline.Hooks{Recovered: func(op string, _ int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.trouble, name(op))
	}, Retry: func(op string, attempt int, err error, in time.Duration) {
		if attempt < troubleAttempts {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.trouble[name(op)] = trouble{err.Error(), time.Now().Add(in + troubleLasts), replay}
	}}
}
