package replay

import (
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// keyer builds keys of rows, as the invalidators will. It keeps scratch memory
// and so belongs to one goroutine.
type keyer struct {
	bindings *keys.Bindings
	result   keys.Result
}

func newKeyer(s *keys.Schema) *keyer {
	return &keyer{bindings: keys.NewBindings(s)}
}

// rows returns what the rows make, until the next call; nil where no rule is
// about the table.
func (k *keyer) rows(t *pipeline.TableRows) *keys.Result {
	b := k.bindings.Of(t.DB, t.Table, t.Columns)
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
