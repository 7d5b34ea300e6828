package replay

import (
	"maps"
	"slices"
	"strings"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// oldKeys finds the keys that an older schema made and today's does not: nobody
// deletes them any more. It belongs to one goroutine.
type oldKeys struct {
	schema, today *keys.Schema
	keyer         *keyer
	gone          map[*keys.Rule]bool // rules whose keys today's schema does not make
	// blind says that the source has only today's values: where a rule is gone, its
	// keys cannot be told from rows, and all of them are swept.
	blind bool
}

// owed is what is swept when all else is published: a sweep reads every key name
// in Redis, and so is made once, not for each chunk.
type owed struct {
	Patterns []string `json:"patterns,omitempty"`
	Source   string   `json:"source,omitempty"` // as in the events
	// GTIDs is what the servers must show before the second sweep; Unnamed says
	// that it does not hold all.
	GTIDs   string `json:"gtids,omitempty"`
	Unnamed bool   `json:"unnamed,omitempty"`
}

// maxOwedGTIDs bounds owed.GTIDs, in bytes. Beyond it the second sweep comes
// after the fixed delay.
const maxOwedGTIDs = 64 << 10

func newOldKeys(old, today *keys.Schema, blind bool) *oldKeys {
	o := &oldKeys{schema: old, today: today, keyer: newKeyer(old), gone: make(map[*keys.Rule]bool), blind: blind}
	for _, r := range old.Rules() {
		o.gone[r] = !slices.ContainsFunc(today.Rules(), func(n *keys.Rule) bool { return sameKeys(old, r, today, n) })
	}
	return o
}

// sameKeys says that two rules make the same keys of the same rows, if they make
// any: the key's template, the tables and the text for NULL are the same.
func sameKeys(a *keys.Schema, x *keys.Rule, b *keys.Schema, y *keys.Rule) bool {
	xdb, xt := x.TableGlob()
	ydb, yt := y.TableGlob()
	nulls := make([]any, len(x.KeyColumns()))
	if xdb != ydb || xt != yt || x.Template() != y.Template() || len(nulls) != len(y.KeyColumns()) {
		return false
	}
	// Null texts are not exported; what they make of NULLs is.
	xk, xerr := a.Key(x.Name(), nulls...)
	yk, yerr := b.Key(y.Name(), nulls...)
	return xk == yk && (xerr == nil) == (yerr == nil)
}

// sweeps returns the patterns of the rules that are gone, of tables in scopes.
func (o *oldKeys) sweeps(scopes []pipeline.Scope) []string {
	var all []string
	for _, s := range scopes {
		for _, r := range o.schema.Scope(s.DB, s.Table) {
			if o.gone[r] && !slices.Contains(all, r.Pattern()) {
				all = append(all, r.Pattern())
			}
		}
	}
	return all
}

// chunk returns an event with the keys of the old schema that the events make
// stale and that are not in has, the chunk's keys by today's schema; nil where
// there are none. It adds them to has, and what must be swept to debt.
func (o *oldKeys) chunk(events []pipeline.Event, has keySet, debt *owed) *pipeline.Event {
	extra := make(keySet)
	var from, sweptFrom []string // GTIDs
	for i := range events {
		e := &events[i]
		before, patterns := len(extra), o.sweeps(e.Scopes)
		for j := range e.Tables {
			patterns = append(patterns, o.table(&e.Tables[j], has, extra)...)
			if o.blind {
				patterns = append(patterns, o.unchanged(&e.Tables[j], has, extra)...)
			}
		}
		if len(extra) > before {
			from = append(from, e.GTID)
		}
		if len(patterns) > 0 || o.blind {
			debt.add(patterns...)
			sweptFrom = append(sweptFrom, e.GTID)
		}
	}
	debt.need(sweptFrom)
	debt.Source = events[0].Source
	if len(extra) == 0 {
		return nil
	}
	maps.Copy(has, extra)
	gtids, _ := unionOf(from)
	return &pipeline.Event{
		Version: pipeline.Version, Kind: pipeline.KindKeys, Source: events[0].Source, GTID: gtids, Schema: o.today.Hash(),
		Keys: slices.Sorted(maps.Keys(extra)), Reason: "keys of the old schema",
	}
}

// table adds the keys of rows to extra, and returns the patterns of rules whose
// keys could not be built.
func (o *oldKeys) table(t *pipeline.TableRows, has, extra keySet) (patterns []string) {
	r := o.keyer.rows(t)
	if r == nil {
		return nil
	}
	for i, key := range r.Keys {
		if _, ok := has[key]; !ok && !(o.blind && o.gone[r.Rules[i]]) {
			extra[key] = struct{}{}
		}
	}
	for _, d := range r.Doubts {
		// A rule that both schemas have is in doubt for the invalidators, too.
		if o.gone[d.Rule] && !slices.Contains(patterns, d.Rule.Pattern()) {
			patterns = append(patterns, d.Rule.Pattern())
		}
	}
	return patterns
}

// unchanged adds the keys of rows that nobody changed, of rules whose condition
// asks for a change: it has no answer, and the keys are made whatever it says, as
// the source does by today's schema. It returns the patterns of rules whose keys
// could not be built.
func (o *oldKeys) unchanged(t *pipeline.TableRows, has, extra keySet) (patterns []string) {
	table := o.schema.Table(t.DB, t.Table)
	if table == nil {
		return nil
	}
	for _, r := range table.Rules() {
		if !r.ComparesImages() || o.gone[r] {
			continue // one that is gone is swept
		}
		if !o.every(r, t, has, extra) {
			patterns = append(patterns, r.Pattern())
		}
	}
	return patterns
}

// every adds the keys of all rows that have no image before, by one rule. It says
// whether all of them could be built.
func (o *oldKeys) every(r *keys.Rule, t *pipeline.TableRows, has, extra keySet) bool {
	columns, all := r.KeyColumns(), true
	for _, row := range t.Rows {
		if row.Before != nil {
			continue // a change, which the condition is about
		}
		args, skipped := make([]any, len(columns)), false
		for i, c := range columns {
			at := slices.IndexFunc(t.Columns, func(have string) bool { return strings.EqualFold(have, c) })
			if at < 0 || at >= len(row.After) || row.After[at].Kind == keys.Absent {
				return false
			}
			args[i], skipped = row.After[at], skipped || row.After[at].Kind == keys.Null
		}
		key, err := o.schema.Key(r.Name(), args...)
		if err != nil {
			all = all && skipped // no key for NULL
		} else if _, ok := has[key]; !ok {
			extra[key] = struct{}{}
		}
	}
	return all
}

func (d *owed) add(patterns ...string) {
	for _, p := range patterns {
		if !slices.Contains(d.Patterns, p) {
			d.Patterns = append(slices.Clone(d.Patterns), p)
		}
	}
}

func (d *owed) need(gtids []string) {
	if len(gtids) == 0 || d.Unnamed {
		return
	}
	if d.GTIDs != "" {
		gtids = append(gtids, d.GTIDs)
	}
	text, ok := unionOf(gtids)
	if !ok || len(text) > maxOwedGTIDs {
		text, d.Unnamed = "", true
	}
	d.GTIDs = text
}

// event returns what is owed; nil where nothing is.
func (d *owed) event(schema string) *pipeline.Event {
	if len(d.Patterns) == 0 {
		return nil
	}
	return &pipeline.Event{
		Version: pipeline.Version, Kind: pipeline.KindKeys, Source: d.Source, GTID: d.GTIDs, Schema: schema,
		Patterns: d.Patterns, Reason: "rules of the old schema: " + strings.Join(d.Patterns, ", "),
	}
}

// unionOf returns all transactions of some GTIDs or sets of them; "" and false
// where one is not known.
func unionOf(gtids []string) (string, bool) {
	var all gtid.Set
	var b gtid.Builder
	last := ""
	for _, g := range gtids {
		if g == last && g != "" {
			continue
		}
		last = g
		if g != "" && b.Add(g) == nil {
			continue
		}
		set, err := gtid.Parse(g)
		if err != nil || set.Empty() {
			return "", false
		}
		all.Union(set)
	}
	all.Union(b.Set())
	return all.String(), true
}
