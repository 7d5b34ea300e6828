package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/keys"
)

// plan is what the records of one read ask to be deleted. Both passes make it
// with the same code from the same bytes.
type plan struct {
	keys  []string // distinct within a lane, in the order of the lanes
	lanes []int    // where each lane's keys end in keys
	// need holds the transactions of the events, but not those of progress
	// records; unnamed says that it does not hold all of them.
	need       gtid.Set
	unnamed    bool
	patterns   []string      // distinct
	fill       time.Duration // the longest of the patterns' rules; of all fills for patterns that no rule has
	over       []OverInfo
	letters    []DeadLetter
	committed  []time.Time
	whenErrors int
	events     int             // progress records are none
	progress   *progressRecord // of the newest progress record; nil without one
}

// progressRecord is what a progress record says.
type progressRecord struct {
	offset                int64
	source                string
	gtids                 string // the set as it is written
	partition, partitions int
	read                  time.Time // by the first pass
}

// size estimates the memory that the plan holds.
func (p *plan) size() int {
	const (
		perPlan   = 256 // with its step
		perString = 32  // header and allocation overhead
	)
	n := perPlan + 24*len(p.committed) + 8*len(p.lanes) + p.need.Size()
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

// lane returns the keys of one lane.
func (p *plan) lane(i int) []string {
	if i == 0 {
		return p.keys[:p.lanes[0]]
	}
	return p.keys[p.lanes[i-1]:p.lanes[i]]
}

// lanes are the distinct fills of a schema's rules, ascending: the second pass
// keeps keys apart by them. The last one is for keys that come without a rule,
// too: nobody knows who fills those, and how. So it is at least the fill of rules
// that do not say their own, also where every rule has a lease, or a shorter one.
type lanes struct {
	fills []time.Duration
	of    map[*keys.Rule]int
}

func lanesOf(s *keys.Schema, fill time.Duration) *lanes {
	l := &lanes{of: make(map[*keys.Rule]int)}
	each := make(map[*keys.Rule]time.Duration)
	longest := fill
	for _, r := range s.Rules() {
		d, ok := r.Fill()
		switch {
		case r.Lease():
			d = 0
		case !ok:
			d = fill
		}
		each[r] = d
		l.fills = append(l.fills, d)
		longest = max(longest, d)
	}
	l.fills = append(l.fills, longest)
	slices.Sort(l.fills)
	l.fills = slices.Compact(l.fills)
	for r, d := range each {
		l.of[r] = slices.Index(l.fills, d)
	}
	return l
}

// planner turns records into plans. It keeps scratch memory and so belongs to
// one goroutine.
type planner struct {
	schema   *keys.Schema
	lanes    *lanes
	keys     [][]string     // by lane, of the plan at hand
	seen     map[string]int // the lane of each of them
	skip     *again         // what need not be planned; nil: nothing
	need     gtid.Builder
	gtid     string // the last one
	bindings *keys.Bindings
	result   keys.Result
	differs  func(hash string)
	last     string // the last schema hash that differed
}

func newPlanner(s *keys.Schema, l *lanes, differs func(string)) *planner {
	return &planner{
		schema: s, lanes: l, keys: make([][]string, len(l.fills)),
		bindings: keys.NewBindings(s), differs: differs,
	}
}

func (pl *planner) plan(partition string, msgs []Message) *plan {
	p := &plan{}
	pl.seen, pl.gtid = make(map[string]int, len(msgs)), ""
	for _, m := range msgs {
		e, err := DecodeEvent(m.Data)
		if err != nil {
			pl.letter(p, partition, m, err.Error())
			pl.scope(p, Everything, err.Error())
			p.committed = append(p.committed, time.Time{})
			p.events++
			p.unnamed = true
			continue
		}
		if e.Kind == KindProgress {
			p.progress = &progressRecord{offset: m.Offset, source: e.Source, gtids: e.GTID, partition: e.Partition, partitions: e.Partitions}
			continue
		}
		if pl.skip.skips(m.Offset, e.GTID) {
			continue
		}
		p.events++
		p.committed = append(p.committed, e.CommittedAt)
		pl.compare(e.Schema)
		pl.name(p, e)
		if reason := pl.event(p, e); reason != "" {
			pl.letter(p, partition, m, reason)
		}
	}
	return pl.finish(p)
}

// name adds the event's transactions to what a reader must show.
func (pl *planner) name(p *plan, e *Event) {
	if e.GTID == pl.gtid && e.GTID != "" {
		return
	}
	pl.gtid = e.GTID
	if e.GTID != "" && pl.need.Add(e.GTID) == nil {
		return
	}
	set, err := gtid.Parse(e.GTID)
	if err != nil || set.Empty() {
		p.unnamed = true
		return
	}
	p.need.Union(set)
}

// finish puts the lanes' keys together.
func (pl *planner) finish(p *plan) *plan {
	n := 0
	for _, ks := range pl.keys {
		n += len(ks)
	}
	p.keys, p.lanes = make([]string, 0, n), make([]int, len(pl.keys))
	for i, ks := range pl.keys {
		p.keys = append(p.keys, ks...)
		p.lanes[i] = len(p.keys)
		clear(ks)
		pl.keys[i] = ks[:0]
	}
	p.need.Union(pl.need.Set())
	slices.Sort(p.patterns)
	p.patterns = slices.Compact(p.patterns)
	return p
}

// everything is the plan for a gap: all keys of all rules.
func (pl *planner) everything(reason string) *plan {
	p := &plan{}
	pl.scope(p, Everything, reason)
	return pl.finish(p)
}

func (pl *planner) letter(p *plan, partition string, m Message, reason string) {
	p.letters = append(p.letters, DeadLetter{Partition: partition, Offset: m.Offset, Reason: reason, Data: m.Data, Schema: pl.schema.Hash()})
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
func (pl *planner) event(p *plan, e *Event) (doubt string) {
	for _, s := range e.Scopes {
		pl.scope(p, s, e.Reason)
	}
	longest := len(pl.lanes.fills) - 1
	for _, k := range e.Keys {
		pl.key(k, longest)
	}
	if len(e.Patterns) > 0 {
		p.patterns = append(p.patterns, e.Patterns...)
		p.fill = pl.lanes.fills[longest]
	}
	if doubt = e.doubt(pl.schema.Hash()); doubt != "" {
		pl.tables(p, e, doubt)
		return doubt
	}
	return pl.rows(p, e)
}

// rows adds the keys of row changes to the plan, and says why some could not be made.
func (pl *planner) rows(p *plan, e *Event) string {
	var doubts []string
	for i := range e.Tables {
		t := &e.Tables[i]
		b := pl.bindings.Of(t.DB, t.Table, t.Columns)
		if b == nil {
			continue // no rule of this schema is about the table
		}
		pl.result.Reset()
		for _, r := range t.Rows {
			b.Append(&pl.result, r.Before, r.After)
		}
		p.whenErrors += pl.result.WhenErrors
		for i, k := range pl.result.Keys {
			pl.key(k, pl.lanes.of[pl.result.Rules[i]])
		}
		for _, d := range pl.result.Doubts {
			if !slices.Contains(p.patterns, d.Rule.Pattern()) {
				pl.pattern(p, d.Rule)
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

// tables adds the patterns of every rule about the tables of an event's rows.
func (pl *planner) tables(p *plan, e *Event, reason string) {
	for i := range e.Tables {
		pl.scope(p, TableScope(e.Tables[i].DB, e.Tables[i].Table), reason)
	}
}

// key adds a key to a lane, where it is in none with as long a fill.
func (pl *planner) key(k string, lane int) {
	if had, ok := pl.seen[k]; !ok || had < lane {
		pl.seen[k] = lane
		pl.keys[lane] = append(pl.keys[lane], k)
	}
}

// scope adds the patterns of every rule whose tables may lie in the scope.
func (pl *planner) scope(p *plan, s Scope, reason string) {
	rules := pl.schema.Scope(s.DB, s.Table)
	if len(rules) == 0 {
		return // no key depends on these tables
	}
	for _, r := range rules {
		pl.pattern(p, r)
	}
	p.over = append(p.over, OverInfo{Scope: s, Reason: reason})
}

func (pl *planner) pattern(p *plan, r *keys.Rule) {
	p.patterns = append(p.patterns, r.Pattern())
	p.fill = max(p.fill, pl.lanes.fills[pl.lanes.of[r]])
}
