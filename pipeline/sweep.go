package pipeline

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

// sweeper deletes whole tables beside the passes: a scan of a large Redis takes
// long, and must hold up no delete of a named key. What it owes holds the stored
// cursors back instead (I1).
type sweeper struct {
	mu      sync.Mutex
	owed    []*sweep // in the order in which they were asked for
	changed chan struct{}
}

// sweep is one whole-table invalidation on its way through both passes.
type sweep struct {
	from     int64     // cursors must not pass it; below 0: none may be stored
	seen     time.Time // when its records were read
	pass     Pass      // the one that it owes
	patterns []string
	running  bool
}

func newSweeper() *sweeper { return &sweeper{changed: make(chan struct{})} }

// add asks for the patterns to be deleted, beginning with a pass. One that waits
// takes the patterns of a later one along, where that does not put it off: a
// hundred TRUNCATEs in a row make one scan.
func (s *sweeper) add(pass Pass, from int64, seen time.Time, patterns []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owed {
		if o.pass == pass && !o.running && (pass == First || !o.seen.Before(seen)) {
			o.from = min(o.from, from)
			if o.seen.Before(seen) {
				o.seen = seen
			}
			o.patterns = slices.Compact(slices.Sorted(slices.Values(append(o.patterns, patterns...))))
			return
		}
	}
	s.owed = append(s.owed, &sweep{from: from, seen: seen, pass: pass, patterns: slices.Clone(patterns)})
	s.wake()
}

func (s *sweeper) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// lowest returns the cursors that must not be passed.
func (s *sweeper) lowest() Cursors {
	c := Cursors{First: math.MaxInt64, Second: math.MaxInt64}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owed {
		c.Second = min(c.Second, o.from)
		if o.pass == First || o.from < 0 {
			c.First = min(c.First, o.from)
		}
	}
	return c
}

// next waits for a sweep that may run: a first one at once, a second one when
// fill has gone by since its records were seen.
func (s *sweeper) next(ctx context.Context, fill time.Duration) (*sweep, error) {
	for {
		s.mu.Lock()
		o, in := s.ready(fill)
		changed := s.changed
		s.mu.Unlock()
		if o != nil {
			return o, nil
		}
		t := time.NewTimer(in)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, context.Cause(ctx)
		case <-changed:
		case <-t.C:
		}
		t.Stop()
	}
}

// ready returns the sweep to run, second ones before first ones, or how long
// until one is due.
func (s *sweeper) ready(fill time.Duration) (o *sweep, in time.Duration) {
	in = time.Hour
	for _, w := range s.owed {
		wait := time.Duration(0)
		if w.pass == Second {
			wait = time.Until(w.seen.Add(fill))
		}
		switch {
		case wait > 0:
			in = min(in, wait)
		case o == nil || o.pass == First && w.pass == Second:
			o = w
		}
	}
	if o != nil {
		o.running = true
	}
	return o, in
}

// done says that a sweep's pass was acknowledged, and when it was sent.
func (s *sweeper) done(o *sweep, sent time.Time, fill time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.running = false
	if o.pass == First && sent.Sub(o.seen) < fill {
		o.pass = Second
		return
	}
	s.owed = slices.DeleteFunc(s.owed, func(w *sweep) bool { return w == o })
}

// sweep runs what the sweeper owes, until ctx ends.
func (w *worker) sweep(ctx context.Context) error {
	for {
		o, err := w.sweeper.next(ctx, w.Fill)
		if err != nil {
			return err
		}
		var sent time.Time
		swept := 0
		err = retry(ctx, &w.Hooks, string(o.pass)+" sweep", func(ctx context.Context) error {
			sent = time.Now()
			n, err := w.Deleter.DeletePatterns(ctx, o.patterns)
			swept += n
			return err
		})
		if err != nil {
			return err
		}
		if w.Hooks.Deleted != nil {
			w.Hooks.Deleted(DeletedInfo{Partition: w.p.Name(), Pass: o.pass, Patterns: o.patterns, Swept: swept})
		}
		w.sweeper.done(o, sent, w.Fill)
	}
}
