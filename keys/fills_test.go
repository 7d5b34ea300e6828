package keys

import (
	"testing"
	"time"
)

func TestFills(t *testing.T) {
	for _, c := range []struct {
		fields      string
		fill        time.Duration
		lease       bool
		onUntrusted OnUntrusted
	}{
		{"", 0, false, Bypass},
		{", fill: 1500ms", 1500 * time.Millisecond, false, Bypass},
		{", lease: false, fill: 2s", 2 * time.Second, false, Bypass},
		{", lease: true", 0, true, Bypass},
		{", lease: true, on_untrusted: serve", 0, true, Serve},
		{", lease: true, on_untrusted: \"error\"", 0, true, Refuse},
	} {
		s := parse(t, `{name: a, table: a.b, key: "a:{id}"`+c.fields+`}`)
		r := s.Rule("a")
		fill, says := r.Fill()
		if fill != c.fill || says != (c.fill > 0) || r.Lease() != c.lease || r.OnUntrusted() != c.onUntrusted {
			t.Errorf("%s: Fill = %v, %v; Lease = %v; OnUntrusted = %q", c.fields, fill, says, r.Lease(), r.OnUntrusted())
		}
		if plain := parse(t, `{name: a, table: a.b, key: "a:{id}"}`); s.Hash() != plain.Hash() {
			t.Errorf("%s: the hash differs, although the keys do not", c.fields)
		}
	}
	if r := parse(t, `{name: a, table: a.b, key: "a:{id}"}`).Rule("b"); r != nil {
		t.Errorf("an unknown rule: %v", r)
	}
}

func TestOwnKeys(t *testing.T) {
	for key, refused := range map[string]bool{
		"doubletap:{id}":    true,
		"doubletap:all":     true,
		"double{id}:all":    true,
		"d{id}":             false, // a value never holds the colon
		"doubletap{id}":     false,
		"doubletap":         false,
		"my-doubletap:{id}": false,
	} {
		_, err := Parse("keys.yaml", []byte("version: 1\nkeys: [{name: a, table: a.b, key: \""+key+"\"}]"))
		if (err != nil) != refused {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// TestSameKeysSameFills: a second table that feeds a page says the same of it.
func TestSameKeysSameFills(t *testing.T) {
	parse(t,
		`{name: page, table: a.b, key: "page:{id}", lease: true}`,
		`{name: line, table: a.c, key: "page:{page_id}", lease: true}`,
		`{name: list, table: a.c, key: "list:{id}", fill: 2s}`)
}
