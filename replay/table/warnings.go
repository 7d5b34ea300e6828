package table

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// needs are what is read of a table, and for which rules.
type needs struct {
	columns []string
	rules   []*keys.Rule
	lost    []string // columns of another schema that the table does not have
}

// rulesOf returns the rules for a table. It is an error if nothing depends on it.
func (d *Deps) rulesOf(db, name string) (t *keys.Table, further []string, err error) {
	t = d.Schema.Table(db, name)
	if d.Columns != nil {
		further = d.Columns(db, name)
	}
	if t == nil && len(further) == 0 {
		return nil, nil, fmt.Errorf("no rule of the key schema is for %s.%s, so no key depends on it: %w", db, name, pipeline.ErrFatal)
	}
	return t, further, nil
}

// need says what is read of a table. With a column unknown, each row would delete
// all that its rule can make: that is better said, and done once. Columns for
// another schema are left out instead: who asked for them knows what to do.
func (d *Deps) need(t *table) (n needs, err error) {
	of, further, err := d.rulesOf(t.db, t.name)
	if err != nil {
		return n, err
	}
	if of != nil {
		n.columns, n.rules = slices.Clone(of.Columns()), of.Rules()
	}
	inKey := func(name string) bool {
		return slices.ContainsFunc(n.rules, func(r *keys.Rule) bool { return contains(r.KeyColumns(), name) })
	}
	var problems []error
	for _, name := range n.columns {
		c := t.column(name)
		if c == nil {
			problems = append(problems, fmt.Errorf("column %q does not exist, or the user may not see it%s", name, meant(name, t.columnNames())))
		} else if err := c.usable(inKey(name)); err != nil {
			problems = append(problems, fmt.Errorf("column %q: %w", name, err))
		}
	}
	if len(problems) > 0 {
		return n, fmt.Errorf("%s.%s lacks what its rules need: %w; correct the rules, or delete all keys that depend on it with -whole: %w",
			t.db, t.name, errors.Join(problems...), pipeline.ErrFatal)
	}
	for _, name := range further {
		if contains(n.columns, name) {
			continue
		}
		if c := t.column(name); c == nil || c.usable(false) != nil {
			n.lost = append(n.lost, name)
		} else {
			n.columns = append(n.columns, name)
		}
	}
	return n, nil
}

func contains(list []string, name string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, name) })
}

// warnings says what a walk cannot find.
func warnings(t *table, n needs) []string {
	out := []string{fmt.Sprintf("Rows that no longer exist are not walked: keys that only deleted rows of %s.%s had stay as they are. Where such keys may be wrong, and where a template itself has changed, the whole table must go: -whole, with -old-keys for keys of an earlier schema.", t.db, t.name)}
	var former, gone []string
	for _, r := range n.rules {
		if slices.ContainsFunc(r.KeyColumns(), func(c string) bool { return !contains(t.key.names(), c) }) {
			former = append(former, r.Name())
		}
		if r.Conditional() {
			gone = append(gone, r.Name())
		}
	}
	if len(former) > 0 {
		out = append(out, fmt.Sprintf("Keys of rule %s hold columns beside the key %s, which may have had other values: keys of former values are not found by a walk. A replay of the binlog finds them as far as it reaches back, -whole all of them.",
			strings.Join(former, ", "), t.key.name))
	}
	if len(gone) > 0 {
		out = append(out, fmt.Sprintf("Rule %s has a condition: rows that met it once and do not now are not found by a walk.", strings.Join(gone, ", ")))
	}
	if len(n.lost) > 0 {
		out = append(out, fmt.Sprintf("The earlier schema needs column %s, which %s.%s does not have now, or not of a type for keys: keys that hold it cannot be told from rows.", strings.Join(n.lost, ", "), t.db, t.name))
	}
	return out
}
