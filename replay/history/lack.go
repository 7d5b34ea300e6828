package history

import (
	"fmt"
	"slices"
	"strings"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Lack is what the events of a range do not hold, though today's schema needs it,
// because the schema that they were published under did not name it.
type Lack struct {
	DB    string `json:"db"`
	Table string `json:"table"`
	// Columns are those that the table's events lack: their keys cannot be built, so
	// all keys of the rules are deleted. None means that there may be no events of
	// the table at all, so that nothing is deleted; DB and Table are globs then.
	Columns []string `json:"columns,omitempty"`
	Events  int64    `json:"events"` // that lack columns, or were published under that schema
	Schema  string   `json:"schema"` // the hash of that schema, of one of them
	// Set without After holds the transactions concerned, as BinlogSpec has them: a
	// replay of the binlog by these covers what lacks. Set is "" where that is not
	// known; a replay of the table covers it then.
	Set   string `json:"set,omitempty"`
	After string `json:"after,omitempty"`
}

// String says what is missing and what has it.
func (l Lack) String() string {
	where := fmt.Sprintf("replay the table %s.%s instead", l.DB, l.Table)
	if l.Set != "" {
		where = fmt.Sprintf("replay the binlog by the GTID set %q", l.Set)
		if l.After != "" {
			where += fmt.Sprintf(" after %q", l.After)
		}
		where += fmt.Sprintf(" instead, or the table %s.%s where that is purged", l.DB, l.Table)
	}
	if len(l.Columns) == 0 {
		return fmt.Sprintf("events were published under another schema (%s), which may not have named %s.%s: what happened to it then is not in the log. To cover it, %s.",
			l.Schema, l.DB, l.Table, where)
	}
	return fmt.Sprintf("%s of %s.%s published under another schema (%s) lack %s %s, so all keys of their rules are deleted. To delete only those concerned, %s.",
		count(l.Events, "event", "events"), l.DB, l.Table, l.Schema, map[bool]string{true: "the column", false: "the columns"}[len(l.Columns) == 1],
		strings.Join(l.Columns, ", "), where)
}

type tableName struct{ db, table string }

// tableLack is what events of one table lack.
type tableLack struct {
	columns []string
	events  int64
	schema  string
	span    gtidSpan
}

// epoch is the use of another schema than today's.
type epoch struct {
	events int64
	rules  map[*keys.Rule]bool // that have events
	span   gtidSpan
	after  []string // by partition: how far the tailer was before; "" is not known
	upTo   []string // by partition: how far it got
}

// lackFinder looks at events, one partition after another, in their order.
type lackFinder struct {
	schema  *keys.Schema
	old     *keys.Schema // of which it is known what it names; or nil
	tables  map[tableName]*tableLack
	missing map[string][]string // by table and columns: those of today's that are not there
	epochs  map[string]*epoch

	// Of the partition at hand:
	in      bool            // an event of the range has come
	entered map[string]bool // epochs
	current string          // the schema of what came last
	first   string          // the set of the first progress record
	newest  string          // and of the newest
	known   bool            // there was one
	late    bool            // what comes now is behind the range,
	over    bool            // and so is what progress records say
}

func newLackFinder(d LogDeps) *lackFinder {
	return &lackFinder{schema: d.Schema, old: d.Old, tables: map[tableName]*tableLack{}, missing: map[string][]string{}, epochs: map[string]*epoch{}}
}

// begin begins a partition. in says that the range begins with its first record,
// not at an event of some time.
func (f *lackFinder) begin(in bool) {
	f.in, f.entered, f.known, f.late, f.over = in, map[string]bool{}, false, false, false
	f.current, f.first, f.newest = f.schema.Hash(), "", ""
}

// before takes an event that lies before the range.
func (f *lackFinder) before(e *pipeline.Event) {
	f.current = e.Schema
	if e.Kind == pipeline.KindProgress {
		f.note(e)
	}
}

func (f *lackFinder) note(e *pipeline.Event) {
	if !f.known {
		f.known, f.first = true, e.GTID
	}
	f.newest = e.GTID
}

// progress takes a progress record, of which nobody knows its time.
func (f *lackFinder) progress(e *pipeline.Event) {
	if f.over {
		return
	}
	f.over = f.late
	if f.in {
		f.enter(e.Schema, f.newest)
	}
	f.current = e.Schema
	f.note(e)
	if ep := f.epochs[e.Schema]; ep != nil && f.entered[e.Schema] {
		ep.upTo[len(ep.upTo)-1] = e.GTID
	}
}

// enter notes that another schema is in use, by a tailer that was so far before.
func (f *lackFinder) enter(schema, after string) *epoch {
	if schema == f.schema.Hash() {
		return nil
	}
	ep := f.epochs[schema]
	if ep == nil {
		ep = &epoch{rules: map[*keys.Rule]bool{}}
		f.epochs[schema] = ep
	}
	if !f.entered[schema] {
		f.entered[schema] = true
		ep.after, ep.upTo = append(ep.after, after), append(ep.upTo, "")
	}
	return ep
}

// after takes an event that is behind the time of the range for sure.
func (f *lackFinder) after() { f.late = true }

// open says whether the range of the partition ends under another schema.
func (f *lackFinder) open() bool {
	if !f.in { // no event of the time: progress alone
		f.in = true
		if ep := f.enter(f.current, f.first); ep != nil {
			ep.upTo[len(ep.upTo)-1] = f.newest
		}
	}
	return f.entered[f.current] && !f.over
}

// behind takes an event behind the range; enough says that no more are needed.
func (f *lackFinder) behind(e *pipeline.Event) (enough bool) {
	if e.Kind != pipeline.KindProgress {
		return false
	}
	ep := f.epochs[f.current]
	ep.upTo[len(ep.upTo)-1] = e.GTID
	return true
}

// event takes an event of the range.
func (f *lackFinder) event(e *pipeline.Event) {
	if !f.in {
		// The schema of what came just before may have been in use when the range
		// began; so may be what progress records say that came in between.
		f.in = true
		f.enter(f.current, f.first)
		f.enter(e.Schema, f.first)
	}
	ep := f.enter(e.Schema, f.newest)
	f.current = e.Schema
	if ep != nil {
		ep.events++
		ep.span.add(e.GTID)
	}
	for i := range e.Tables {
		t := &e.Tables[i]
		today := f.schema.Table(t.DB, t.Table)
		if today == nil {
			continue
		}
		if ep != nil {
			for _, r := range today.Rules() {
				ep.rules[r] = true
			}
		}
		if lacking := f.lacking(t, today); len(lacking) > 0 {
			f.lack(t, e, lacking)
		}
	}
}

// lacking returns the columns that today's rules need and the event's table lacks.
func (f *lackFinder) lacking(t *pipeline.TableRows, today *keys.Table) []string {
	id := t.DB + "\x00" + t.Table + "\x00" + strings.Join(t.Columns, "\x00")
	list, ok := f.missing[id]
	if ok {
		return list
	}
	for _, need := range today.Columns() {
		if !slices.ContainsFunc(t.Columns, func(c string) bool { return strings.EqualFold(c, need) }) {
			list = append(list, need)
		}
	}
	if len(f.missing) >= maxMissing {
		clear(f.missing)
	}
	f.missing[id] = list
	return list
}

// maxMissing bounds the cache of columns.
const maxMissing = 10_000

func (f *lackFinder) lack(t *pipeline.TableRows, e *pipeline.Event, columns []string) {
	name := tableName{t.DB, t.Table}
	l := f.tables[name]
	if l == nil {
		l = &tableLack{schema: e.Schema}
		f.tables[name] = l
	}
	l.events++
	l.span.add(e.GTID)
	for _, c := range columns {
		if !slices.Contains(l.columns, c) {
			l.columns = append(l.columns, c)
		}
	}
}
