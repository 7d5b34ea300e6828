package history

import (
	"maps"
	"slices"
	"strings"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/keys"
)

// found returns everything that lacks: tables by name, then rules' tables.
func (f *lackFinder) found() (all []Lack) {
	all = f.tableLacks()
	for _, hash := range slices.Sorted(maps.Keys(f.epochs)) {
		ep := f.epochs[hash]
		said := map[tableName]bool{}
		for _, r := range f.schema.Rules() {
			db, table := r.TableGlob()
			// Events of one table say nothing about the others that a glob stands for.
			named := ep.rules[r] && !isGlob(db+table)
			if named || said[tableName{db, table}] || f.oldHas(hash, db, table) {
				continue
			}
			said[tableName{db, table}] = true
			l := Lack{DB: db, Table: table, Events: ep.events, Schema: hash}
			l.Set, l.After = ep.sets()
			all = append(all, l)
		}
	}
	return all
}

// oldHas says whether a schema is the one before, and named all tables of a rule.
func (f *lackFinder) oldHas(hash, db, table string) bool {
	if f.old == nil || f.old.Hash() != hash {
		return false
	}
	if !isGlob(db+table) && f.old.Table(db, table) != nil {
		return true
	}
	return slices.ContainsFunc(f.old.Rules(), func(r *keys.Rule) bool {
		oldDB, oldTable := r.TableGlob()
		return oldDB == db && oldTable == table
	})
}

// isGlob says whether a name of a rule's table stands for several.
func isGlob(name string) bool { return strings.ContainsAny(name, `*?\`) }

func (f *lackFinder) tableLacks() (all []Lack) {
	for _, name := range slices.SortedFunc(maps.Keys(f.tables), func(a, b tableName) int {
		return strings.Compare(a.db+"\x00"+a.table, b.db+"\x00"+b.table)
	}) {
		t := f.tables[name]
		l := Lack{DB: name.db, Table: name.table, Columns: t.columns, Events: t.events, Schema: t.schema}
		l.Set, l.After = t.span.sets()
		all = append(all, l)
	}
	return all
}

// sets returns the transactions of the epoch, those of tables without events
// among them: from where the tailer was before to where it got.
func (ep *epoch) sets() (set, after string) {
	hull, least := ep.span.sets()
	if ep.span.unknown {
		return "", ""
	}
	end, err := gtid.Parse(hull)
	if err != nil {
		return "", ""
	}
	for _, text := range ep.upTo {
		if upTo, err := gtid.Parse(text); err == nil {
			end.Union(upTo)
		}
	}
	begin, err := gtid.Parse(ep.after[0])
	for _, text := range ep.after[1:] {
		more, parseErr := gtid.Parse(text)
		begin = begin.Intersect(more)
		if parseErr != nil {
			err = parseErr
		}
	}
	if err != nil {
		return end.String(), ""
	}
	return end.String(), ep.span.spare(begin, least)
}
