package keys

import "testing"

func TestRuleSaysWhatItsConditionReads(t *testing.T) {
	for _, c := range []struct {
		when              string
		conditional, both bool
	}{
		{"", false, false},
		{"when: \"status = 'new'\"", true, false},
		{"when: \"op != 'insert'\"", true, true},
		{"when: \"before.status != after.status\"", true, true},
		{"when: \"after.op = 'x' OR status = 'y'\"", true, true},
	} {
		s, err := Parse("keys.yaml", []byte("version: 1\nkeys:\n  - {name: r, table: d.t, key: \"t:{id}\""+map[bool]string{true: ", "}[c.when != ""]+c.when+"}\n"))
		if err != nil {
			t.Fatal(err)
		}
		if r := s.Rules()[0]; r.Conditional() != c.conditional || r.ComparesImages() != c.both {
			t.Errorf("%q: conditional %t, compares images %t", c.when, r.Conditional(), r.ComparesImages())
		}
	}
}
