package keys

import (
	"fmt"
	"slices"
	"strings"
)

// Rule is one entry of the schema's list of keys. It does not change and is
// safe for concurrent use; callers must not change the slices it returns.
type Rule struct {
	name      string
	at        string // file:line, for errors
	dbGlob    string
	tableGlob string
	db, table []token
	template  *template
	null      string   // text for NULL, "" to make no key
	watched   []string // columns: as written
	when      *when
	pattern   string
	columns   []string
	filling
}

// Name returns the rule's name.
func (r *Rule) Name() string { return r.name }

// At returns the rule's place in the schema file, as file:line.
func (r *Rule) At() string { return r.at }

// TableGlob returns the two halves of the rule's table as globs: * stands for
// any characters, ? for one, \x for x. To find the tables of a rule, ask
// [Schema.Table] rather than match these.
func (r *Rule) TableGlob() (db, table string) { return r.dbGlob, r.tableGlob }

// Template returns the key template as written in the file.
func (r *Rule) Template() string { return r.template.source }

// Pattern returns the Redis glob that matches every key the rule can make. It
// begins with at least one literal byte.
func (r *Rule) Pattern() string { return r.pattern }

// KeyColumns returns the distinct columns of the template, in template order:
// the order in which [Schema.Key] takes values.
func (r *Rule) KeyColumns() []string { return r.template.cols }

// Columns returns all columns the rule needs: those of the template first,
// then those of columns:, then those of when:.
func (r *Rule) Columns() []string { return r.columns }

// Conditional says whether the rule has a condition (when:).
func (r *Rule) Conditional() bool { return r.when != nil }

// ComparesImages says whether the rule's condition reads op, or one image by its
// name: it cannot be answered for a row by itself, which nobody has changed.
func (r *Rule) ComparesImages() bool { return r.when != nil && r.when.images }

// complete derives what follows from the rule's fields.
func (r *Rule) complete() {
	r.db, r.table = nameTokens(r.dbGlob), nameTokens(r.tableGlob)
	r.pattern = r.template.pattern()
	r.columns = slices.Clone(r.template.cols)
	for _, c := range r.watched {
		r.columns = addColumn(r.columns, c)
	}
	if r.when != nil {
		for _, ref := range r.when.refs {
			r.columns = addColumn(r.columns, ref.column)
		}
	}
}

// addColumn adds a column unless the list has it, in whatever case.
func addColumn(list []string, column string) []string {
	if findColumn(list, column) >= 0 {
		return list
	}
	return append(list, column)
}

// findColumn returns the index of a column, -1 if it is not there.
func findColumn(list []string, column string) int {
	return slices.IndexFunc(list, func(c string) bool { return strings.EqualFold(c, column) })
}

func (r *Rule) matches(db, table string) bool {
	return matchName(r.db, db) && matchName(r.table, table)
}

// errorf makes an error that names the rule's place and name.
func (r *Rule) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: rule %q: %w", r.at, r.name, fmt.Errorf(format, args...))
}

// append builds the key from the values of the template's columns.
func (r *Rule) append(dst []byte, values []Value) ([]byte, buildError) {
	t := r.template
	dst = append(dst, t.prefix...)
	for i := range t.holes {
		h := &t.holes[i]
		v := &values[h.col]
		switch v.Kind {
		case Absent:
			return dst, buildError{col: h.col, absent: true}
		case Null:
			if r.null == "" {
				return dst, buildError{col: h.col, null: true}
			}
			dst = append(dst, r.null...)
		case Number, Text:
			text := v.Text
			for _, f := range h.filters {
				var err error
				if text, err = f.apply(text); err != nil {
					return dst, buildError{col: h.col, err: err}
				}
			}
			dst = appendValue(dst, text, h.bare)
		}
		dst = append(dst, h.after...)
	}
	return dst, buildError{}
}

// buildError says why a key was not built; its zero value says that it was.
type buildError struct {
	col    int
	absent bool
	null   bool
	err    error
}

func (e buildError) failed() bool { return e.absent || e.null || e.err != nil }
