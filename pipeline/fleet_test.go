package pipeline_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// The engine's tests with readers name the transactions as MySQL does; the fake
// source counts them.

// plain returns the fake source's name of a transaction.
func plain(gtid string) string {
	if n, ok := strings.CutPrefix(gtid, uuid+":"); ok {
		return "src:" + n
	}
	return gtid
}

// numberOf returns the number of a transaction, 0 for what is none.
func numberOf(gtid string) (n int) {
	if _, err := fmt.Sscanf(plain(gtid), "src:%d", &n); err != nil {
		return 0
	}
	return n
}

// named is a source whose transactions have GTIDs.
type named struct{ *pipelinetest.Source }

func (s named) Run(ctx context.Context, from pipeline.Position, fn func(context.Context, pipeline.Batch) error) error {
	return s.Source.Run(ctx, from, func(ctx context.Context, b pipeline.Batch) error {
		b.Txn.GTID = fmt.Sprintf("%s:%d", uuid, numberOf(b.Txn.GTID))
		return fn(ctx, b)
	})
}

func (s named) Advance(p pipeline.Position, gtids []string) (pipeline.Position, error) {
	var all []string
	for _, g := range gtids {
		all = append(all, plain(g))
	}
	return s.Source.Advance(p, all)
}

func (s named) GTIDSet(p pipeline.Position) string { return upTo(numberOf(string(p))) }

func (w *world) source() pipeline.Source {
	if w.fleet == nil {
		return w.src
	}
	return named{w.src}
}

// fleet are the readers of a world: one that follows at once, and two that lag,
// stop, and are replaced by an older copy.
type fleet struct {
	source, near *pipelinetest.Server
	wild         []*pipelinetest.Server
	until        map[string]time.Time // for how long a wild one goes on as it does
	maxWait      time.Duration

	mu        sync.Mutex
	shows     map[string]int // by reader
	past      map[string][]change
	copies    int
	committed int
	copied    time.Time
}

// change is what a reader shows from a moment on.
type change struct {
	at time.Time
	n  int
}

func newFleet() *fleet {
	f := &fleet{
		source: pipelinetest.NewServer("source", ""), near: pipelinetest.NewServer("near", ""),
		wild:    []*pipelinetest.Server{pipelinetest.NewServer("far", ""), pipelinetest.NewServer("other", "")},
		maxWait: 4 * time.Second, until: map[string]time.Time{}, shows: map[string]int{}, past: map[string][]change{},
	}
	for _, s := range f.all() {
		f.show(s, 0)
	}
	return f
}

func (f *fleet) all() []*pipelinetest.Server { return append(slices.Clone(f.wild), f.near) }

// watch returns what a process watches.
func (f *fleet) watch() *pipeline.Readers {
	r := &pipeline.Readers{Source: f.source, MaxWait: f.maxWait}
	for _, s := range f.all() {
		r.Servers = append(r.Servers, s)
	}
	return r
}

func (f *fleet) show(s *pipelinetest.Server, n int) {
	s.Show(upTo(n))
	f.shows[s.Name()] = n
	f.past[s.Name()] = append(f.past[s.Name()], change{time.Now(), n})
}

// step lets the readers go on: n transactions are committed, and end says that
// there will be no more.
func (f *fleet) step(r *rand.Rand, n int, end bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := upTo(f.committed)
	f.committed = n
	f.source.Show(upTo(n))
	f.near.Show(upTo(f.shows["near"]))
	if f.shows["near"] < n {
		f.show(f.near, n)
	}
	if !end { // they say one step late what they show
		f.source.Admit(before)
		f.near.Admit(before)
	}
	for _, s := range f.wild {
		f.move(r, s, n, end)
	}
}

// move lets a wild one do something.
func (f *fleet) move(r *rand.Rand, s *pipelinetest.Server, n int, end bool) {
	if time.Now().Before(f.until[s.Name()]) {
		return
	}
	s.Down(false)
	have := f.shows[s.Name()]
	switch luck := r.IntN(100); {
	case luck < 40 && have < n:
		f.show(s, have+1+r.IntN(n-have))
	case end || luck < 97:
	case luck == 97: // stops
		f.until[s.Name()] = time.Now().Add(time.Duration(r.IntN(8000)) * time.Millisecond)
	case luck == 98: // does not answer
		s.Down(true)
		f.until[s.Name()] = time.Now().Add(time.Duration(r.IntN(8000)) * time.Millisecond)
	default: // an older copy takes its place
		f.restore(r, s)
	}
}

// seenAsItIs is long enough for a process to see a reader as it is.
const seenAsItIs = 1100 * time.Millisecond

// restore lets an older copy take the place of one, under another identity or
// under the same.
func (f *fleet) restore(r *rand.Rand, s *pipelinetest.Server) {
	f.copied = time.Now()
	s.Down(false)
	if r.IntN(2) == 0 {
		f.copies++
		s.Become(fmt.Sprintf("%s-%d", s.Name(), f.copies))
	}
	f.show(s, r.IntN(f.shows[s.Name()]+1))
	f.until[s.Name()] = time.Now().Add(seenAsItIs)
}

// died lets readers go on when a process has died: the next one must see an
// older copy, where the last one may not have.
func (f *fleet) died(r *rand.Rand) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.wild {
		switch {
		case r.IntN(3) == 0:
			f.restore(r, x)
		case time.Now().Before(f.until[x.Name()]):
			f.until[x.Name()] = time.Now().Add(seenAsItIs)
		}
	}
}

// settled says that all show n transactions, and that whoever looks knows it.
func (f *fleet) settled(n int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.all() {
		if f.shows[s.Name()] != n {
			return false
		}
	}
	return time.Since(f.copied) > 3*time.Second
}

// since returns from when on a reader has shown a transaction without a break,
// as of a moment.
func (f *fleet) since(reader string, n int, as time.Time) (at time.Time, ok bool) {
	for _, c := range f.past[reader] {
		switch {
		case c.at.After(as):
			return at, ok
		case c.n < n:
			ok = false
		case !ok:
			at, ok = c.at, true
		}
	}
	return at, ok
}

// credit notes by which readers' visibility a delete was late enough (I6).
func (j *judge) credit(d debt, sent time.Time) {
	j.again[d] = append(j.again[d], sent)
	if j.readers[d] == nil {
		j.readers[d] = map[string]bool{}
	}
	for reader := range j.h.fleet.past {
		// That another server answers now is known within a second.
		for _, as := range []time.Time{sent, sent.Add(-1100 * time.Millisecond)} {
			if at, ok := j.h.fleet.since(reader, numberOf(j.recordOf(d)), as); ok && sent.Sub(at) >= j.h.fill {
				j.readers[d][reader], j.second[d] = true, true
			}
		}
	}
}

// byReaders says that a debt was paid for all readers that are not marked out
// there.
func (j *judge) byReaders(d debt, marks string) bool {
	if j.h.fleet == nil || d.key == anyKey {
		return true
	}
	var line struct {
		Readers map[string]struct{ Out *int64 }
	}
	if err := json.Unmarshal([]byte(marks), &line); err != nil {
		j.fail("marks %q: %v", marks, err)
	}
	for reader := range j.h.fleet.past {
		if m := line.Readers[reader]; m.Out != nil && *m.Out <= d.offset {
			continue
		}
		if !j.readers[d][reader] {
			return false
		}
	}
	return true
}

// completeForReaders checks that for each time for which a reader lacked a
// change there was a delete fill after it.
func (j *judge) completeForReaders() {
	if j.h.fleet == nil {
		return
	}
	now := time.Now()
	for gtid, ks := range j.h.expected {
		for _, k := range ks {
			for reader := range j.h.fleet.past {
				at, ok := j.h.fleet.since(reader, numberOf(gtid), now)
				paid := false
				for _, d := range append(j.debts[k], j.debts[anyKey]...) {
					for _, sent := range j.again[d] {
						paid = paid || j.recordOf(d) == gtid && sent.Sub(at) >= j.h.fill
					}
				}
				if !ok || !paid && !j.sweptAfter(at) {
					j.fail("key %s of %s: no delete after reader %s showed it at %v (%v)", k, gtid, reader, at, ok)
				}
			}
		}
	}
}

// sweptAfter says that everything was deleted fill after a moment.
func (j *judge) sweptAfter(at time.Time) bool {
	for _, e := range j.h.entries {
		if e.kind == deleted && len(e.patterns) == len(everyPattern) && j.h.entries[e.sent].at.Sub(at) >= j.h.fill {
			return true
		}
	}
	return false
}

// died is called between two processes.
func (w *world) died() {
	if w.fleet != nil {
		w.fleet.died(w.rand)
	}
}

func newWorldWithReaders(t *testing.T, s *keys.Schema, seed uint64) *world {
	w := newWorld(t, s, seed)
	w.fleet = newFleet()
	w.h.fleet = w.fleet
	return w
}

// The same kills while readers lag, stop, leave and are replaced.
func TestKillWithReaders(t *testing.T) {
	killAtEach(t, []uint64{4, 5, 6, rand.Uint64()}, newWorldWithReaders)
}
