package pipeline

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// Applications see how far the passes are, and whether they may trust the cache,
// by what is posted here. It runs beside the passes: a slow Redis delays what is
// posted, and nothing else.

const (
	postLeast  = 100 * time.Millisecond // between two posts
	postEvery  = time.Second            // where nothing changes
	postWithin = 2 * time.Second        // a post is given up then, and made anew
	trustFor   = 5 * time.Second        // how long a post vouches for the cache, from before what it says was judged
)

// allRules stands for every rule in Watermark.Untrusted.
const allRules = "*"

// poster makes and posts a partition's watermarks.
type poster struct {
	*worker
	newest        *progressRecord // the first pass has passed it, but for its sweeps
	handled       gtid.Set        // the set of newest
	first, second reached
	out           *outList // what the watermark at hand says of readers
}

// reached is how far a pass is, its sweeps included.
type reached struct {
	done *progressRecord // all before it was deleted by the pass
	// next is a later one that waits for sweeps. It is not replaced by one later
	// still: where sweeps overlap, there is always one that is owed.
	next *progressRecord
}

// follow takes in the newest record that a pass has passed, and the first one of
// which sweeps are owed.
func (r *reached) follow(newest *progressRecord, owed int64) {
	switch {
	case newest == nil:
	case owed > newest.offset:
		r.done, r.next = newest, nil
	case r.next == nil:
		r.next = newest
	case owed > r.next.offset:
		r.done, r.next = r.next, newest
	}
}

// post posts the partition's watermark when it has changed and every second,
// until ctx ends. Before the first progress record there is none.
func (w *worker) post(ctx context.Context) error {
	if w.Watermarks == nil {
		return nil
	}
	p := poster{worker: w}
	var last Watermark
	var at time.Time
	for {
		b := w.backlog
		b.mu.Lock()
		changed := b.changed
		b.mu.Unlock()
		m, ok := p.watermark()
		if ok && (!sameMark(m, last) || time.Since(at) >= postEvery) {
			var posted bool
			at = time.Now()
			if last, posted = p.posted(ctx, m); posted {
				w.madeKnown(p.out)
			}
		}
		if p.out != nil && time.Since(p.out.since) > 2*trustFor {
			w.madeKnown(p.out) // whoever was not told has no trust left that he could act on
		}
		if err := sleep(ctx, postLeast); err != nil {
			return err
		}
		t := time.NewTimer(max(0, time.Until(at.Add(postEvery))))
		if !ok {
			t.Reset(postEvery)
		}
		select {
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-changed:
		case <-t.C:
		}
		t.Stop()
	}
}

func sameMark(a, b Watermark) bool {
	return slices.Equal(a.Out, b.Out) && a.First == b.First && a.Second == b.Second && a.Partitions == b.Partitions && a.Partition == b.Partition &&
		a.Source == b.Source && slices.Equal(a.Untrusted, b.Untrusted)
}

// posted posts a watermark like m, and returns it; none where it is not known to
// be posted.
func (p *poster) posted(ctx context.Context, m Watermark) (Watermark, bool) {
	within, cancel := context.WithTimeout(ctx, postWithin)
	defer cancel()
	turn, err := p.Watermarks.Turn(within, m.Source, m.Partition, trustFor)
	if err == nil {
		m, _ = p.watermark() // judged anew: trust is counted from the begin of the turn
		err = p.Watermarks.Post(within, turn, m)
	}
	if err != nil {
		if p.Hooks.Retry != nil && ctx.Err() == nil {
			p.Hooks.Retry("post watermark", 1, err, postLeast)
		}
		return Watermark{}, false
	}
	if p.Hooks.Posted != nil {
		p.Hooks.Posted(p.p.Name(), m)
	}
	return m, true
}

// watermark makes the partition's watermark, by what is known when it is called.
func (p *poster) watermark() (m Watermark, ok bool) {
	p.out = p.wanted.Load()
	b := p.backlog
	b.mu.Lock()
	first, second := p.passed[0], p.passed[1]
	b.mu.Unlock()
	// What the sweeper owes is read after the passes' places: a sweep that is
	// asked for in between belongs to later records.
	owed := p.sweeper.lowest()
	patterns, from := p.sweeper.owesFirst()
	if first == nil {
		return m, false
	}
	if first != p.newest {
		p.newest = first
		p.handled, _ = gtid.Parse(first.gtids) // the empty set is never trusted
	}
	p.first.follow(first, from)
	p.second.follow(second, owed.Second)
	m = Watermark{Source: first.source, Partition: first.partition, Partitions: first.partitions, Schema: p.Schema.Hash()}
	if p.first.done != nil {
		m.First = p.first.done.gtids
	}
	if p.out != nil {
		m.Out = p.out.servers
	}
	if p.second.done != nil {
		m.Second = p.second.done.gtids
	}
	switch {
	case from < 0 || !p.timely():
		m.Untrusted = []string{allRules}
	default:
		for _, r := range p.Schema.Rules() {
			if slices.Contains(patterns, r.Pattern()) {
				m.Untrusted = append(m.Untrusted, r.Name())
			}
		}
	}
	return m, true
}

// timely says that all which the source showed up to MaxLag ago is handled by
// the first pass.
func (p *poster) timely() bool {
	if p.Readers == nil {
		return false
	}
	asked, ok := p.Readers.within(p.handled)
	return ok && time.Since(asked) <= p.MaxLag
}

// owesFirst returns the patterns that the first pass still owes, and since which
// record: below 0 for a gap.
func (s *sweeper) owesFirst() (patterns []string, from int64) {
	from = math.MaxInt64
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owed {
		if o.pass == First {
			patterns = append(patterns, o.patterns...)
			from = min(from, o.from)
		}
	}
	return patterns, from
}
