package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
)

// plan is what the records of one read ask to be deleted. Both passes make it
// with the same code from the same bytes.
type plan struct {
	keys       []string // distinct
	patterns   []string // distinct
	over       []OverInfo
	letters    []DeadLetter
	committed  []time.Time
	whenErrors int
	events     int             // progress records are none
	progress   *progressRecord // of the newest progress record; nil without one
}

// progressRecord is what a progress record says.
type progressRecord struct {
	source                string
	gtids                 string // the set as it is written
	partition, partitions int
}

// size estimates the memory that the plan holds.
func (p *plan) size() int {
	const (
		perPlan   = 256 // with its step
		perString = 32  // header and allocation overhead
	)
	n := perPlan + 24*len(p.committed)
	if p.progress != nil {
		n += 64 + len(p.progress.source) + len(p.progress.gtids)
	}
	for _, k := range p.keys {
		n += len(k) + perString
	}
	for _, k := range p.patterns {
		n += len(k) + perString
	}
	return n
}

// planner turns records into plans. It keeps scratch memory and so belongs to
// one goroutine.
type planner struct {
	schema   *keys.Schema
	bindings map[string]*keys.Binding
	result   keys.Result
	differs  func(hash string)
	last     string // the last schema hash that differed
}

// maxBindings bounds the cache of bindings; it is cleared when it is full.
const maxBindings = 1024

func newPlanner(s *keys.Schema, differs func(string)) *planner {
	return &planner{schema: s, bindings: make(map[string]*keys.Binding), differs: differs}
}

func (pl *planner) plan(partition string, msgs []Message) *plan {
	p := &plan{}
	seen := make(map[string]struct{}, len(msgs))
	for _, m := range msgs {
		e, err := DecodeEvent(m.Data)
		if err != nil {
			p.letter(partition, m, err.Error())
			pl.scope(p, Everything, err.Error())
			p.committed = append(p.committed, time.Time{})
			p.events++
			continue
		}
		if e.Kind == KindProgress {
			p.progress = &progressRecord{source: e.Source, gtids: e.GTID, partition: e.Partition, partitions: e.Partitions}
			continue
		}
		p.events++
		p.committed = append(p.committed, e.CommittedAt)
		pl.compare(e.Schema)
		if reason := pl.event(p, seen, e); reason != "" {
			p.letter(partition, m, reason)
		}
	}
	slices.Sort(p.patterns)
	p.patterns = slices.Compact(p.patterns)
	return p
}

// everything is the plan for a gap: all keys of all rules.
func (pl *planner) everything(reason string) *plan {
	p := &plan{}
	pl.scope(p, Everything, reason)
	slices.Sort(p.patterns)
	p.patterns = slices.Compact(p.patterns)
	return p
}

func (p *plan) letter(partition string, m Message, reason string) {
	p.letters = append(p.letters, DeadLetter{Partition: partition, Offset: m.Offset, Reason: reason, Data: m.Data})
}

// compare tells when events were published with another schema: their columns
// may not be the ones that today's rules need.
func (pl *planner) compare(hash string) {
	if hash == pl.schema.Hash() || hash == pl.last {
		return
	}
	pl.last = hash
	if pl.differs != nil {
		pl.differs(hash)
	}
}

// event adds one event to the plan. It returns why a part of it could not be
// turned into keys, or "".
func (pl *planner) event(p *plan, seen map[string]struct{}, e *Event) (doubt string) {
	for _, s := range e.Scopes {
		pl.scope(p, s, e.Reason)
	}
	var doubts []string
	for i := range e.Tables {
		t := &e.Tables[i]
		b := pl.bind(t)
		if b == nil {
			continue // no rule of this schema is about the table
		}
		pl.result.Reset()
		for _, r := range t.Rows {
			b.Append(&pl.result, r.Before, r.After)
		}
		p.whenErrors += pl.result.WhenErrors
		for _, k := range pl.result.Keys {
			if _, ok := seen[k]; !ok {
				seen[k] = struct{}{}
				p.keys = append(p.keys, k)
			}
		}
		for _, d := range pl.result.Doubts {
			if !slices.Contains(p.patterns, d.Rule.Pattern()) {
				p.patterns = append(p.patterns, d.Rule.Pattern())
			}
			text := fmt.Sprintf("rule %s: %s", d.Rule.Name(), d.Reason)
			if !slices.Contains(doubts, text) {
				doubts = append(doubts, text)
				p.over = append(p.over, OverInfo{Scope: Scope{DB: t.DB, Table: t.Table}, Rule: d.Rule.Name(), Reason: d.Reason})
			}
		}
	}
	return strings.Join(doubts, "; ")
}

// scope adds the patterns of every rule whose tables may lie in the scope.
func (pl *planner) scope(p *plan, s Scope, reason string) {
	rules := pl.schema.Scope(s.DB, s.Table)
	if len(rules) == 0 {
		return // no key depends on these tables
	}
	for _, r := range rules {
		p.patterns = append(p.patterns, r.Pattern())
	}
	p.over = append(p.over, OverInfo{Scope: s, Reason: reason})
}

// bind ties the table's rules to the event's columns; nil where no rule matches.
func (pl *planner) bind(t *TableRows) *keys.Binding {
	id := t.DB + "\x00" + t.Table + "\x00" + strings.Join(t.Columns, "\x00")
	b, ok := pl.bindings[id]
	if !ok {
		if table := pl.schema.Table(t.DB, t.Table); table != nil {
			b = table.Bind(t.Columns)
		}
		if len(pl.bindings) >= maxBindings {
			clear(pl.bindings)
		}
		pl.bindings[id] = b
	}
	return b
}
