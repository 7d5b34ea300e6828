package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Count is a dry run: it reads a source to its end and counts what a Run would
// delete. It publishes nothing and needs no State.
type Count struct {
	Source Source // planned, or opened from Plan.Fixed
	Schema *keys.Schema
	// Old and SweepOld are as in Run.
	Old      *keys.Schema
	SweepOld []pipeline.Scope
	// Dir is a folder for what does not fit into memory, 10 bytes for each key; ""
	// is the system's for temporary files. Nothing stays there.
	Dir string
	// Rate is the rate, in keys per second, by which time is estimated; 0 is none.
	Rate float64
	// Cached, if not nil, returns how many of some keys are in Redis now. It is
	// called once, with a sample.
	Cached func(ctx context.Context, keys []string) (int, error)
	// Pace, if not nil, holds reading back while live traffic suffers. Only rows
	// count for it, not their keys: nothing is deleted.
	Pace *Pace
	// Progress, if not nil, is called for each chunk.
	Progress func(Progress)

	limit int // marks in memory; for tests
}

// sampleSize is how many keys Cached is asked for: the share of cached keys is
// then known within 1.6 percent points, 19 times of 20 (n = 4000, p = 0.5).
const sampleSize = 4000

// Counted is what a dry run found.
type Counted struct {
	Rows   int64 `json:"rows"` // rows, changes or lines that were looked at
	Chunks int64 `json:"chunks"`
	// Keys is the number of distinct keys; a chunk that is published names a key
	// once, and so a replay may send some keys more often: Sent is that number.
	Keys int64 `json:"keys"`
	Sent int64 `json:"sent"`
	// Rules has the distinct keys of each rule, in the schema's order. A key that
	// several rules make of one row counts for the first of them.
	Rules []RuleCount `json:"rules"`
	// Listed is the number of distinct keys that were named as such, not by rows.
	Listed int64 `json:"listed"`
	// OldKeys is the number of distinct keys that only the old schema makes.
	OldKeys int64 `json:"old_keys"`
	// Patterns are swept: every key that matches is deleted, however many there are.
	Patterns []Sweep `json:"patterns,omitempty"`
	// Seconds is how long a replay takes at Rate; 0 without one.
	Seconds float64 `json:"seconds"`
	// Sampled keys were looked for in Redis, and Cached of them were there: keys that
	// will miss once they are deleted, and be read from the database again. Misses is
	// about how many that makes of all, and MissesPerSecond at Rate.
	Sampled         int     `json:"sampled"`
	Cached          int     `json:"cached"`
	Misses          int64   `json:"misses"`
	MissesPerSecond float64 `json:"misses_per_second"`
}

// RuleCount is how many keys of a rule would be deleted.
type RuleCount struct {
	Rule string `json:"rule"`
	Keys int64  `json:"keys"`
}

// Sweep is a pattern that would be swept.
type Sweep struct {
	Pattern string `json:"pattern"`
	Rule    string `json:"rule,omitempty"`
	Reason  string `json:"reason"`
}

// The numbers of keys that no rule of today's schema makes.
const (
	listedKeys uint16 = 1<<16 - 1 - iota
	oldSchemaKeys
)

// Do reads the source to its end. The memory it needs does not depend on how many
// keys there are.
func (c *Count) Do(ctx context.Context) (Counted, error) {
	n := &counter{Count: c, keyer: newKeyer(c.Schema), d: newDistinct(c.Dir, c.limit, sampleSize), rule: make(map[*keys.Rule]uint16), set: make(keySet)}
	for i, r := range c.Schema.Rules() {
		n.rule[r] = uint16(min(i, int(oldSchemaKeys)-1)) //nolint:gosec // bounded
	}
	if c.Old != nil {
		n.oldKeys = newOldKeys(c.Old, c.Schema, len(c.SweepOld) > 0)
	}
	err := n.read(ctx)
	if err == nil {
		err = n.finish(ctx)
	}
	if err != nil {
		err = fmt.Errorf("dry run: %w", err)
	}
	return n.out, errors.Join(err, n.d.close())
}

// counter is a Count at work.
type counter struct {
	*Count
	keyer   *keyer
	oldKeys *oldKeys
	d       *distinct
	rule    map[*keys.Rule]uint16
	set     keySet
	debt    owed
	out     Counted
	began   time.Time
}

// read reads the source, with the pace at work beside.
func (n *counter) read(ctx context.Context) error {
	if n.Pace != nil {
		defer n.Pace.Start(ctx)()
	}
	return n.Source.Read(ctx, "", n.chunk)
}

func (n *counter) chunk(ctx context.Context, c Chunk) error {
	if err := n.Pace.read(ctx, c.Rows, 0); err != nil {
		return err
	}
	if n.began.IsZero() {
		n.began = time.Now()
	}
	n.out.Rows += c.Rows
	n.out.Chunks++
	clear(n.set)
	for i := range c.Events {
		e := &c.Events[i]
		for _, key := range e.Keys {
			if err := n.key(key, listedKeys); err != nil {
				return err
			}
		}
		for _, p := range e.Patterns {
			n.sweep(Sweep{Pattern: p, Reason: e.Reason})
		}
		for _, s := range e.Scopes {
			for _, r := range n.Schema.Scope(s.DB, s.Table) {
				n.sweep(Sweep{Pattern: r.Pattern(), Rule: r.Name(), Reason: e.Reason})
			}
		}
		for j := range e.Tables {
			if err := n.rows(n.keyer.rows(&e.Tables[j])); err != nil {
				return err
			}
		}
	}
	if n.oldKeys != nil && len(c.Events) > 0 {
		if extra := n.oldKeys.chunk(c.Events, n.set, &n.debt); extra != nil {
			for _, key := range extra.Keys {
				if err := n.d.add(key, oldSchemaKeys); err != nil {
					return err
				}
			}
		}
	}
	n.out.Sent += int64(len(n.set))
	n.report(c)
	return nil
}

// key counts a key once a chunk and rule: a mark for each would cost more.
func (n *counter) key(key string, rule uint16) error {
	n.set[key] = struct{}{}
	return n.d.add(key, rule)
}

func (n *counter) rows(r *keys.Result) error {
	if r == nil {
		return nil
	}
	for i, key := range r.Keys {
		if err := n.key(key, n.rule[r.Rules[i]]); err != nil {
			return err
		}
	}
	for _, d := range r.Doubts {
		n.sweep(Sweep{Pattern: d.Rule.Pattern(), Rule: d.Rule.Name(), Reason: d.Reason})
	}
	return nil
}

// sweep notes a pattern, with the first reason for it.
func (n *counter) sweep(s Sweep) {
	if !slices.ContainsFunc(n.out.Patterns, func(had Sweep) bool { return had.Pattern == s.Pattern }) {
		n.out.Patterns = append(n.out.Patterns, s)
	}
}

func (n *counter) report(c Chunk) {
	if n.Progress == nil {
		return
	}
	p := Progress{Phase: Reading, Rows: n.out.Rows, Keys: n.out.Sent, Chunks: n.out.Chunks, Total: -1, Done: c.Done, Left: -1}
	if s := time.Since(n.began).Seconds(); s > 0 {
		p.Rate = float64(p.Keys) / s
		if c.Done > 0 {
			p.Left = time.Duration((1 - c.Done) / c.Done * s * float64(time.Second))
		}
	}
	n.Progress(p)
}

func (n *counter) finish(ctx context.Context) error {
	if n.oldKeys != nil {
		n.debt.add(n.oldKeys.sweeps(n.SweepOld)...)
		for _, p := range n.debt.Patterns {
			n.sweep(Sweep{Pattern: p, Reason: "a rule of the old schema that today's does not have"})
		}
	}
	total, byRule, err := n.d.count()
	if err != nil {
		return err
	}
	n.out.Keys = total
	n.out.Listed, n.out.OldKeys = byRule[listedKeys], byRule[oldSchemaKeys]
	for _, r := range n.Schema.Rules() {
		n.out.Rules = append(n.out.Rules, RuleCount{r.Name(), byRule[n.rule[r]]})
	}
	slices.SortFunc(n.out.Patterns, func(a, b Sweep) int { return cmp.Compare(a.Pattern, b.Pattern) })
	if n.Rate > 0 {
		n.out.Seconds = float64(n.out.Sent) / n.Rate
	}
	if few := n.d.few.list(); n.Cached != nil && len(few) > 0 {
		n.out.Sampled = len(few)
		if n.out.Cached, err = n.Cached(ctx, few); err != nil {
			return fmt.Errorf("look for %d keys in Redis: %w", len(few), err)
		}
		share := float64(n.out.Cached) / float64(n.out.Sampled)
		n.out.Misses = int64(share * float64(total))
		n.out.MissesPerSecond = share * n.Rate
	}
	return nil
}
