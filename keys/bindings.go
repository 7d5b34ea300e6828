package keys

import "strings"

// maxBindings bounds the cache of Bindings; it is cleared when it is full.
const maxBindings = 1024

// Bindings are a schema's rules, bound to the columns of tables as they come. It
// keeps what it has bound, bounded, and is not safe for concurrent use.
type Bindings struct {
	schema *Schema
	bound  map[string]*Binding
}

// NewBindings returns the bindings of a schema.
func NewBindings(s *Schema) *Bindings {
	return &Bindings{schema: s, bound: make(map[string]*Binding)}
}

// Of ties a table's rules to the columns as an event lists them (Table.Bind); nil
// where no rule is about the table.
func (b *Bindings) Of(db, table string, columns []string) *Binding {
	id := db + "\x00" + table + "\x00" + strings.Join(columns, "\x00")
	one, ok := b.bound[id]
	if !ok {
		if t := b.schema.Table(db, table); t != nil {
			one = t.Bind(columns)
		}
		if len(b.bound) >= maxBindings {
			clear(b.bound)
		}
		b.bound[id] = one
	}
	return one
}
