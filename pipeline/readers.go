package pipeline

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// Readers watches the servers that cache fills read from: the second pass waits
// until each of them shows a change. One question is on its way to a server at
// a time, whatever the number of events and partitions. Set the fields, let Run
// run beside the Invalidator, and nothing else.
type Readers struct {
	// Source is the source itself, asked for comparison: how far the others are
	// behind, what was lost, and whether the passes keep up.
	Source Reader
	// Servers are those that fills read from; the source is one of them only if
	// fills read it. Their names are distinct. Without any, a second delete is due
	// fill after its event was read from the log.
	Servers []Reader
	// MaxWait is how long the second pass waits for a server that lacks something
	// before it goes on without it; 0 is for ever.
	MaxWait time.Duration
	Hooks   Hooks

	mu      sync.Mutex
	made    bool
	source  *watched // nil without Source
	servers []*watched
	waiting map[any]bool        // who waits for an answer
	out     map[string][]string // by partition: the servers that it goes on without
	changed chan struct{}       // closed and replaced when an answer brought news
	wake    chan struct{}       // closed and replaced when something begins to wait
}

// watched is one server as it was last seen.
type watched struct {
	reader   Reader
	isSource bool

	server string // its identity; "" before the first answer
	err    error  // of the last question
	asked  bool   // at least once
	ring   ring
	found  gtid.Set  // what it showed when it was first seen as what it is
	epoch  int       // grows when it is found to be another, or to have lost something
	moved  time.Time // when it was last found to be another server
	told   time.Time
	tellAs ReaderInfo
}

const (
	idleEvery  = time.Second // between two questions while nothing waits
	busyEvery  = 50 * time.Millisecond
	askTimeout = 5 * time.Second // of one question
	tellEvery  = time.Second     // between two calls of Hooks.ReaderAsked
)

// ReaderState is how a server is doing, for a status page.
type ReaderState struct {
	ReaderInfo
	// Out names the partitions whose second pass goes on without it.
	Out []string
	// MayServe says that cache fills may read from it: it answers, it is not late,
	// and no partition goes on without it.
	MayServe bool
}

// init makes the state; the caller holds mu.
func (r *Readers) init() {
	if r.made {
		return
	}
	r.made = true
	r.waiting, r.out = map[any]bool{}, map[string][]string{}
	r.changed, r.wake = make(chan struct{}), make(chan struct{})
	if r.Source != nil {
		r.source = &watched{reader: r.Source, isSource: true}
	}
	for _, s := range r.Servers {
		r.servers = append(r.servers, &watched{reader: s})
	}
}

// Run asks the servers until ctx ends, and then returns nil.
func (r *Readers) Run(ctx context.Context) error {
	r.mu.Lock()
	r.init()
	all := slices.Clone(r.servers)
	if r.source != nil {
		all = append(all, r.source)
	}
	r.mu.Unlock()
	var wg sync.WaitGroup
	for _, w := range all {
		wg.Go(func() { r.follow(ctx, w) })
	}
	wg.Wait()
	return nil
}

// follow asks one server.
func (r *Readers) follow(ctx context.Context, w *watched) {
	for ctx.Err() == nil {
		asked := time.Now()
		one, cancel := context.WithTimeout(ctx, askTimeout)
		v, err := w.reader.Ask(one)
		cancel()
		if ctx.Err() != nil {
			return
		}
		r.answered(w, asked, v, err)
		r.pause(ctx, asked, err != nil)
	}
}

// pause waits until the next question is due. What does not answer is asked once
// a second.
func (r *Readers) pause(ctx context.Context, asked time.Time, failed bool) {
	for {
		r.mu.Lock()
		every, wake := idleEvery, r.wake
		if len(r.waiting) > 0 && !failed {
			every = busyEvery
		}
		r.mu.Unlock()
		in := every - time.Since(asked)
		if in <= 0 {
			return
		}
		t := time.NewTimer(in)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
			return
		case <-wake:
			t.Stop()
		}
	}
}

// answered takes an answer in, and tells it where that is due.
func (r *Readers) answered(w *watched, asked time.Time, v View, err error) {
	now := time.Now()
	r.mu.Lock()
	w.err, w.asked = err, true
	news := false
	if err == nil {
		news = w.observe(v, asked, now)
	}
	info := r.info(w, now)
	tell := now.Sub(w.told) >= tellEvery || info.Late != w.tellAs.Late || (info.Err == nil) != (w.tellAs.Err == nil) || info.Server != w.tellAs.Server
	if tell {
		w.told, w.tellAs = now, info
	}
	if news || w.isSource {
		close(r.changed)
		r.changed = make(chan struct{})
	}
	r.mu.Unlock()
	if tell && r.Hooks.ReaderAsked != nil {
		r.Hooks.ReaderAsked(info)
	}
}

// observe says whether the answer brought anything new.
func (w *watched) observe(v View, asked, at time.Time) bool {
	if !v.Written.HasAll(v.Shown) {
		v.Written.Union(v.Shown)
	}
	last, now := w.ring.newest(), observation{set: v.Shown, written: v.Written, at: at, asked: asked}
	if w.server != v.Server || len(w.ring) == 0 || !now.written.HasAll(last.written) || !now.set.HasAll(last.set) {
		if w.server != "" && w.server != v.Server {
			w.moved = at
		}
		w.server, w.found, w.epoch = v.Server, v.Shown, w.epoch+1
		w.ring = ring{now}
		return true
	}
	n, was := len(w.ring), last.at
	w.ring = w.ring.add(now)
	return len(w.ring) != n || w.ring.newest().at != was
}

// info describes a server; the caller holds mu.
func (r *Readers) info(w *watched, now time.Time) ReaderInfo {
	i := ReaderInfo{Name: w.reader.Name(), Source: w.isSource, Err: w.err}
	if w.err == nil {
		i.Server = w.server
	}
	if r.source == nil || w.isSource {
		return i
	}
	have := w.ring.newest().set
	i.Behind = have.Missing(r.source.ring.newest().set)
	i.Lag = r.lag(w, now)
	i.Late = r.MaxWait > 0 && i.Lag > r.MaxWait
	return i
}

// lag is for how long a server has lacked the oldest of what the source shows
// and it does not.
func (r *Readers) lag(w *watched, now time.Time) time.Duration {
	if r.source == nil {
		return 0
	}
	o, ok := r.source.ring.beyond(w.ring.newest().set)
	if !ok {
		return 0
	}
	return now.Sub(o.at)
}

// State describes all servers, the source last.
func (r *Readers) State() []ReaderState {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.init()
	var all []ReaderState
	for _, w := range r.servers {
		s := ReaderState{ReaderInfo: r.info(w, now)}
		for p, out := range r.out {
			if slices.Contains(out, s.Name) {
				s.Out = append(s.Out, p)
			}
		}
		slices.Sort(s.Out)
		if !w.asked {
			s.Err = fmt.Errorf("was not asked yet")
		}
		s.MayServe = s.Err == nil && !s.Late && len(s.Out) == 0
		all = append(all, s)
	}
	if r.source != nil {
		all = append(all, ReaderState{ReaderInfo: r.info(r.source, now)})
	}
	return all
}
