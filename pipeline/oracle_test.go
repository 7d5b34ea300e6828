package pipeline_test

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// history is what processes did, in order, with all that is needed to say
// whether they kept the invariants.
type history struct {
	fill     time.Duration
	expected map[string][]string // GTID → the keys that it makes stale
	fleet    *fleet              // of readers; nil: a change is visible when it is published

	mu      sync.Mutex
	entries []entry
}

type entryKind string

const (
	durable entryKind = "durable" // a record is durable and the process knows
	saved   entryKind = "saved"   // a checkpoint was stored, or may have been
	read    entryKind = "read"    // [from, next) of a partition
	sent    entryKind = "sent"    // a delete was sent
	deleted entryKind = "deleted" // its acknowledgement came
	stored  entryKind = "stored"  // cursors were stored
)

type entry struct {
	kind       entryKind
	at         time.Time
	proc       int
	part       int
	from, next int64
	data       []byte
	checkpoint pipeline.Checkpoint
	cursors    pipeline.Cursors
	sent       int // index of the entry
	keys       []string
	patterns   []string
}

func (h *history) add(e entry) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.at = time.Now()
	h.entries = append(h.entries, e)
	return len(h.entries) - 1
}

// debt is one key of one record.
type debt struct {
	part   int
	offset int64
	key    string // anyKey for the invalidation of everything
}

const anyKey = "*"

// judge goes through a history.
type judge struct {
	h         *history
	records   map[int][]pipeline.Message // what the log holds at the end
	debts     map[string][]debt          // by key
	owed      map[[2]int64][]debt        // by partition and offset
	known     map[int]map[[2]int64]int   // by process: the entry with which it saw a record first
	names     map[[2]int64]string        // the transaction, by partition and offset
	published map[string]map[string]bool // GTID → keys that are durable
	swept     bool                       // the invalidation of everything is durable
	pending   bool
	first     map[debt]bool
	second    map[debt]bool
	again     map[debt][]time.Time     // when deletes late enough for fills from the source were sent
	readers   map[debt]map[string]bool // readers, by whose visibility a delete was late enough
	wrong     []string
}

// violations returns what was wrong in a history, given the log as it is at the
// end. base is the transaction after which the first start began; the ones up to
// last must be done with if complete is set.
func (h *history) violations(records map[int][]pipeline.Message, complete bool) []string {
	j := &judge{
		h: h, records: records, debts: map[string][]debt{}, owed: map[[2]int64][]debt{},
		known: map[int]map[[2]int64]int{}, published: map[string]map[string]bool{},
		first: map[debt]bool{}, second: map[debt]bool{},
		names: map[[2]int64]string{}, again: map[debt][]time.Time{}, readers: map[debt]map[string]bool{},
	}
	j.index()
	h.mu.Lock() // an acknowledgement that was late has added one from a goroutine of its own
	defer h.mu.Unlock()
	for i, e := range h.entries {
		j.step(i, e)
	}
	if complete {
		j.complete()
	}
	return j.wrong
}

func (j *judge) fail(format string, args ...any) {
	j.wrong = append(j.wrong, fmt.Sprintf(format, args...))
}

func (j *judge) index() {
	for part, messages := range j.records {
		for _, m := range messages {
			e, err := pipeline.DecodeEvent(m.Data)
			if err != nil {
				j.fail("the log holds %s: %v", m.Data, err)
				continue
			}
			j.names[[2]int64{int64(part), m.Offset}] = plain(e.GTID)
			ks := keysOf(e.Tables)
			if len(e.Scopes) > 0 {
				ks = []string{anyKey}
			}
			for _, k := range ks {
				d := debt{part, m.Offset, k}
				j.debts[k] = append(j.debts[k], d)
				j.owed[[2]int64{int64(part), m.Offset}] = append(j.owed[[2]int64{int64(part), m.Offset}], d)
			}
		}
	}
}

func (j *judge) step(i int, e entry) {
	switch e.kind {
	case durable:
		j.durable(e)
	case saved:
		j.saved(e)
	case read:
		for offset := e.from; offset < e.next; offset++ {
			if j.known[e.proc] == nil {
				j.known[e.proc] = map[[2]int64]int{}
			}
			if id := [2]int64{int64(e.part), offset}; j.known[e.proc][id] == 0 {
				j.known[e.proc][id] = i + 1
			}
		}
	case deleted:
		j.deleted(e)
	case stored:
		j.below(e, "first", e.cursors.First, j.first)
		j.below(e, "second", e.cursors.Second, j.second)
		if e.cursors.Second > e.cursors.First {
			j.fail("the second cursor is ahead: %+v", e.cursors)
		}
	}
}

func (j *judge) durable(e entry) {
	ev, err := pipeline.DecodeEvent(e.data)
	if err != nil {
		j.fail("published %s: %v", e.data, err)
		return
	}
	j.swept = j.swept || len(ev.Scopes) > 0
	if gtid := plain(ev.GTID); j.published[gtid] == nil {
		j.published[gtid] = map[string]bool{}
	}
	for _, k := range keysOf(ev.Tables) {
		j.published[plain(ev.GTID)][k] = true
	}
}

// saved checks I2 and I3: everything up to the position is durable.
func (j *judge) saved(e entry) {
	if e.checkpoint.Pending != "" {
		j.pending, j.swept = true, false
	} else if j.pending && !j.swept {
		j.fail("position %s was stored without the invalidation that it owed", e.checkpoint.Position)
	}
	var n int
	if _, err := fmt.Sscanf(string(e.checkpoint.Position), "src:%d", &n); err != nil {
		j.fail("position %q", e.checkpoint.Position)
	}
	for i := 1; i <= n; i++ {
		gtid := fmt.Sprintf("src:%d", i)
		for _, k := range j.h.expected[gtid] {
			if !j.published[gtid][k] {
				j.fail("position %s was stored, but %s of %s is not durable (I2)", e.checkpoint.Position, k, gtid)
				return
			}
		}
	}
}

// deleted credits an acknowledged delete to the records that its process had
// seen when it was sent; to the second pass, if it was sent late enough (I6).
func (j *judge) deleted(e entry) {
	ks := e.keys
	for _, k := range e.keys {
		if len(j.debts[k]) == 0 {
			j.fail("key %s was deleted for no reason", k)
		}
	}
	if slices.Equal(e.patterns, everyPattern) {
		ks = []string{anyKey}
		if j.h.fleet != nil { // it is for every key, and made where the log no longer says which
			ks = slices.Collect(maps.Keys(j.debts))
		}
	} else if len(e.patterns) > 0 {
		j.fail("swept %q", e.patterns)
	}
	for _, k := range ks {
		for _, d := range j.debts[k] {
			at := j.known[e.proc][[2]int64{int64(d.part), d.offset}] - 1
			if at < 0 || at > e.sent {
				continue
			}
			j.first[d] = true
			if j.h.fleet != nil && k != anyKey {
				j.credit(d, j.h.entries[e.sent].at)
			} else if j.h.entries[e.sent].at.Sub(j.h.entries[at].at) >= j.h.fill {
				j.second[d] = true
			}
		}
	}
}

// below checks I1: all below a cursor is done.
func (j *judge) below(e entry, pass string, cursor int64, done map[debt]bool) {
	for offset := range cursor {
		for _, d := range j.owed[[2]int64{int64(e.part), offset}] {
			if pass == "second" && !j.byReaders(d, e.cursors.Marks) || !done[d] && (pass == "first" || j.h.fleet == nil || d.key == anyKey) {
				j.fail("the %s cursor of partition %d was stored as %d, but %s of %d is not deleted (I1)", pass, e.part, cursor, d.key, offset)
				return
			}
		}
	}
}

// complete checks that every key of every transaction was deleted by both passes.
func (j *judge) complete() {
	for gtid, ks := range j.h.expected {
		for _, k := range ks {
			done := func(m map[debt]bool) bool {
				return slices.ContainsFunc(j.debts[k], func(d debt) bool { return m[d] && j.recordOf(d) == gtid })
			}
			if !done(j.first) || !done(j.second) {
				j.fail("key %s of %s: first delete %v, second delete %v", k, gtid, done(j.first), done(j.second))
			}
		}
	}
	j.completeForReaders()
	if sweeps := j.debts[anyKey]; j.pending && !slices.ContainsFunc(sweeps, func(d debt) bool { return j.second[d] }) {
		j.fail("everything was not invalidated twice")
	}
}

func (j *judge) recordOf(d debt) string { return j.names[[2]int64{int64(d.part), d.offset}] }
