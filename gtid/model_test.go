package gtid

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// naive is a set as a list of its members: "uuid:7", or "0:7" in a domain.
type naive map[string]bool

const most = 20 // the largest number that the model uses

// member draws a transaction, and what the model holds then.
func member(t *rapid.T) (gtid string, all []string) {
	n := rapid.IntRange(1, most).Draw(t, "n")
	if key := rapid.SampledFrom([]string{a, b, a + ":red", a + ":blue", "a domain"}).Draw(t, "key"); key != "a domain" {
		all = []string{fmt.Sprintf("%s:%d", key, n)}
		return rapid.SampledFrom([]string{all[0], strings.ToUpper(all[0])}).Draw(t, "case"), all
	}
	domain := rapid.SampledFrom([]string{"0", "7"}).Draw(t, "domain")
	for i := 1; i <= n; i++ {
		all = append(all, fmt.Sprintf("%s:%d", domain, i))
	}
	return fmt.Sprintf("%s-%d-%d", domain, rapid.IntRange(1, 2).Draw(t, "server"), n), all
}

// everyone is every transaction that the model can hold, as the sets name them.
func everyone() (list []string) {
	for _, key := range []string{a, b, a + ":red", a + ":blue", "0", "7"} {
		for n := 1; n <= most; n++ {
			list = append(list, fmt.Sprintf("%s:%d", key, n))
		}
	}
	return list
}

func named(id string) string {
	if len(id) > 36 {
		return id
	}
	domain, n, _ := strings.Cut(id, ":")
	return domain + "-1-" + n
}

func (m naive) check(t *rapid.T, what string, s Set) {
	for _, id := range everyone() {
		if s.Has(named(id)) != m[id] {
			t.Fatalf("%s: %s: Has(%s) is %v", what, s, id, !m[id])
		}
	}
	if s.Empty() != (len(m) == 0) {
		t.Fatalf("%s: %s: Empty is %v", what, s, s.Empty())
	}
	if n := (Set{}).Missing(s); n != int64(len(m)) {
		t.Fatalf("%s: %s has %d members, not %d", what, s, n, len(m))
	}
}

// Sets do what lists of transactions do, and a copy keeps what it had.
func TestModel(t *testing.T) {
	type pair struct {
		s Set
		m naive
	}
	rapid.Check(t, func(t *rapid.T) {
		all := []pair{{Set{}, naive{}}, {Set{}, naive{}}}
		pick := func(label string) *pair { return &all[rapid.IntRange(0, len(all)-1).Draw(t, label)] }
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			p := pick("set")
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			default: // mostly
				gtid, members := member(t)
				if err := p.s.Add(gtid); err != nil {
					t.Fatal(err)
				}
				for _, id := range members {
					p.m[id] = true
				}
			case 6:
				q := pick("with")
				p.s.Union(q.s)
				maps.Copy(p.m, q.m)
			case 7:
				all = append(all, pair{p.s, maps.Clone(p.m)})
			case 8:
				q := pick("with")
				got, want := p.s.Minus(q.s), maps.Clone(p.m)
				maps.DeleteFunc(want, func(id string, _ bool) bool { return q.m[id] })
				naive(want).check(t, "minus", got)
				if q.s.Missing(p.s) != int64(len(want)) || q.s.HasAll(p.s) != (len(want) == 0) {
					t.Fatalf("%s lacks %d of %s, not %d", q.s, q.s.Missing(p.s), p.s, len(want))
				}
			case 9:
				q := pick("with")
				got, want := p.s.Intersect(q.s), maps.Clone(p.m)
				maps.DeleteFunc(want, func(id string, _ bool) bool { return !q.m[id] })
				naive(want).check(t, "intersect", got)
			}
		}
		for _, p := range all {
			p.m.check(t, "at the end", p.s)
			back, err := Parse(p.s.String())
			if err != nil || back.String() != p.s.String() {
				t.Fatalf("%q is read as %q, %v", p.s, back, err)
			}
			p.m.check(t, "from text", back)
		}
	})
}

func FuzzText(f *testing.F) {
	for _, text := range []string{"", a + ":1-5:7:red:1-3:9,\n" + b + ":1", a + ":7:1-5:6," + a + ":3", "0-1-100,1-2-5,0-2-7", a + ":9223372036854775806"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		back, err := Parse(s.String())
		if err != nil || back.String() != s.String() || !back.HasAll(s) || !s.HasAll(back) || back.Missing(s) != 0 {
			t.Fatalf("%q is read as %q, which is read as %q, %v", text, s, back, err)
		}
		if rest := s.Minus(back); !rest.Empty() {
			t.Fatalf("%q less itself is %q", s, rest)
		}
		if same := s.Intersect(back); same.String() != s.String() {
			t.Fatalf("%q has %q in common with itself", s, same)
		}
	})
}
