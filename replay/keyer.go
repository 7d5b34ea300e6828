package replay

import (
	"strings"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// maxBindings bounds a keyer's cache; it is cleared when it is full.
const maxBindings = 1024

// keyer builds keys of rows, as the invalidators will. It keeps scratch memory
// and so belongs to one goroutine.
type keyer struct {
	schema   *keys.Schema
	bindings map[string]*keys.Binding
	result   keys.Result
}

func newKeyer(s *keys.Schema) *keyer {
	return &keyer{schema: s, bindings: make(map[string]*keys.Binding)}
}

// rows returns what the rows make, until the next call; nil where no rule is
// about the table.
func (k *keyer) rows(t *pipeline.TableRows) *keys.Result {
	id := t.DB + "\x00" + t.Table + "\x00" + strings.Join(t.Columns, "\x00")
	b, ok := k.bindings[id]
	if !ok {
		if table := k.schema.Table(t.DB, t.Table); table != nil {
			b = table.Bind(t.Columns)
		}
		if len(k.bindings) >= maxBindings {
			clear(k.bindings)
		}
		k.bindings[id] = b
	}
	if b == nil {
		return nil
	}
	k.result.Reset()
	for _, r := range t.Rows {
		b.Append(&k.result, r.Before, r.After)
	}
	return &k.result
}

// keySet is the distinct keys that a chunk names.
type keySet map[string]struct{}

// add adds the keys that events name, by today's schema or as such.
func (s keySet) add(k *keyer, events []pipeline.Event) {
	for i := range events {
		e := &events[i]
		for _, key := range e.Keys {
			s[key] = struct{}{}
		}
		for j := range e.Tables {
			r := k.rows(&e.Tables[j])
			if r == nil {
				continue
			}
			for _, key := range r.Keys {
				s[key] = struct{}{}
			}
		}
	}
}
