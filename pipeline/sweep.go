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
	from     int64 // cursors must not pass it; below 0: none may be stored
	wait     waitFor
	gap      bool // wait.need is what the source shows now, and is still to be asked for
	fill     time.Duration
	pass     Pass // the one that it owes
	patterns []string
	running  bool
}

func newSweeper() *sweeper { return &sweeper{changed: make(chan struct{})} }

// add asks for the patterns to be deleted, beginning with a pass. One that waits
// takes the patterns of a later one along, where that does not put it off: a
// hundred TRUNCATEs in a row make one scan.
func (s *sweeper) add(pass Pass, from int64, wait waitFor, fill time.Duration, patterns []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owed {
		if o.pass == pass && !o.running && !o.gap && (pass == First || !o.wait.seen.Before(wait.seen)) {
			o.from = min(o.from, from)
			o.wait.join(wait)
			o.fill = max(o.fill, fill)
			o.patterns = slices.Compact(slices.Sorted(slices.Values(append(o.patterns, patterns...))))
			return
		}
	}
	s.owed = append(s.owed, &sweep{from: from, wait: wait, fill: fill, pass: pass, patterns: slices.Clone(patterns)})
	s.wake()
}

// addGap asks for everything to be deleted: what the source has shown by now may
// be stale. No cursor is stored before it was.
func (s *sweeper) addGap(pass Pass, fill time.Duration, patterns []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owed = append(s.owed, &sweep{
		from: gapOwed, wait: waitFor{seen: time.Now()}, gap: true, fill: fill, pass: pass, patterns: patterns,
	})
	s.wake()
}

// join makes w wait for o too.
func (w *waitFor) join(o waitFor) {
	w.need.Union(o.need)
	w.unnamed = w.unnamed || o.unnamed
	if w.seen.Before(o.seen) {
		w.seen = o.seen
	}
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

// ready returns the sweep to run, second ones before first ones, or how long
// until one is due. due says when a second one may run, and whether that is known.
func (s *sweeper) ready(due func(*sweep) (time.Time, bool)) (o *sweep, in time.Duration) {
	in = time.Hour
	for _, w := range s.owed {
		wait := time.Duration(0)
		if w.pass == Second {
			at, ok := due(w)
			if wait = time.Until(at); !ok {
				wait = time.Second
			}
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

// done says that a sweep's pass was acknowledged, and whether it counts as the
// second.
func (s *sweeper) done(o *sweep, second bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.running, o.pass = false, Second
	if second {
		s.owed = slices.DeleteFunc(s.owed, func(w *sweep) bool { return w == o })
	}
}

// waits returns what the second sweeps wait for that still have to run.
func (s *sweeper) waits() (all []waitFor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owed {
		if o.pass == Second && !o.running && !o.gap {
			all = append(all, o.wait)
		}
	}
	return all
}

// sweep runs what the sweeper owes, until ctx ends.
func (w *worker) sweep(ctx context.Context) error {
	if w.Readers != nil {
		defer w.Readers.want(w.sweeper, false)
	}
	for {
		o, err := w.nextSweep(ctx)
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
		second, rel, err := w.sweptTwice(ctx, o, sent, swept)
		if err != nil {
			return err
		}
		w.told(DeletedInfo{Pass: o.pass, Patterns: o.patterns, Swept: swept, Release: rel})
		w.sweeper.done(o, second)
	}
}

// nextSweep waits for a sweep that may run: a first one at once, a second one
// when it is due.
func (w *worker) nextSweep(ctx context.Context) (*sweep, error) {
	for {
		news := w.Readers.news()
		s := w.sweeper
		unknown := false
		s.mu.Lock()
		o, in := s.ready(func(o *sweep) (time.Time, bool) {
			at, rel, ok := w.sweepShown(o)
			if !ok {
				unknown = true
				return at, false
			}
			return w.sweepDue(o, at, rel), true
		})
		changed := s.changed
		s.mu.Unlock()
		if w.Readers != nil {
			w.Readers.want(s, unknown)
		}
		if o != nil {
			return o, nil
		}
		t := time.NewTimer(in)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, context.Cause(ctx)
		case <-changed:
		case <-news:
		case <-t.C:
		}
		t.Stop()
	}
}

// sweepShown says since when what a second sweep waits for is shown, if that is
// known; the caller holds the sweeper's mutex, or has the sweep running.
func (w *worker) sweepShown(o *sweep) (at time.Time, rel Release, ok bool) {
	if o.gap && w.Readers.count() > 0 {
		if w.Readers.Source == nil {
			o.wait.unnamed = true
		} else if o.wait.need, _, ok = w.Readers.sourceAfter(o.wait.seen); !ok {
			return at, rel, false
		}
	}
	o.gap = false
	at, rel, lacking := w.shown(o.wait)
	return at, rel, len(lacking) == 0
}

// sweepDue says when a second sweep may be sent of what is shown.
func (w *worker) sweepDue(o *sweep, shown time.Time, rel Release) time.Time {
	b := w.backlog
	b.mu.Lock()
	defer b.mu.Unlock()
	return w.due(shown, rel, o.fill, b.stalls)
}

// sweptTwice says whether an acknowledged sweep counts as the second one.
func (w *worker) sweptTwice(ctx context.Context, o *sweep, sent time.Time, swept int) (second bool, rel Release, err error) {
	w.sweeper.mu.Lock()
	at, rel, ok := w.sweepShown(o)
	w.sweeper.mu.Unlock()
	told := rel
	if o.pass == First {
		told = ""
	}
	if !ok || sent.Before(w.sweepDue(o, at, rel)) {
		return false, told, nil
	}
	if w.counts(o.fill) {
		return true, told, nil
	}
	seen, err := w.stalls.Calm(ctx, time.Now())
	if err != nil {
		return false, told, err
	}
	w.confirmed(nil, seen)
	if sent.Before(w.sweepDue(o, at, rel)) {
		if w.Hooks.Stalled != nil {
			w.Hooks.Stalled(StallInfo{Partition: w.p.Name(), Until: seen.newest(), Keys: swept})
		}
		return false, told, nil
	}
	return true, told, nil
}
