package table

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// check says which columns cannot be read for keys. With a column unknown, each
// row would delete all that its rule can make: that is better said, and done once.
func (t *table) check(columns []string, rules []*keys.Rule) error {
	inKey := func(name string) bool {
		ours := false
		for _, r := range rules {
			ours = ours || contains(r.Columns(), name)
			if contains(r.KeyColumns(), name) {
				return true
			}
		}
		return !ours // of another schema, which does not say
	}
	var problems []error
	for _, name := range columns {
		c := t.column(name)
		if c == nil {
			problems = append(problems, fmt.Errorf("column %q does not exist, or the user may not see it%s", name, meant(name, t.columnNames())))
		} else if err := c.usable(inKey(name)); err != nil {
			problems = append(problems, fmt.Errorf("column %q: %w", name, err))
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%s.%s lacks what its rules need: %w; correct the rules, or delete all keys that depend on it with -whole: %w",
		t.db, t.name, errors.Join(problems...), pipeline.ErrFatal)
}

func contains(list []string, name string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, name) })
}

// warnings says what a walk cannot find.
func warnings(t *table, rules []*keys.Rule) []string {
	out := []string{fmt.Sprintf("Rows that no longer exist are not walked: keys that only deleted rows of %s.%s had stay as they are. Where such keys may be wrong, and where a template itself has changed, the whole table must go: -whole, with -old-keys for keys of an earlier schema.", t.db, t.name)}
	var former, gone []string
	for _, r := range rules {
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
	return out
}
