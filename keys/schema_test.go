package keys

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func parse(t *testing.T, rules ...string) *Schema {
	t.Helper()
	s, err := Parse("keys.yaml", []byte("version: 1\nkeys:\n  - "+strings.Join(rules, "\n  - ")+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func names(rules []*Rule) []string {
	out := []string{}
	for _, r := range rules {
		out = append(out, r.Name())
	}
	return out
}

func TestRuleAccessors(t *testing.T) {
	s := parse(t, "{name: a, table: \"shop_*.`it*m`\", key: \"{{u:{User}}}:{id|lower}:{user}*\", columns: [Price, ID], when: \"status = 'x' and before.price > after.stock\"}")
	r := s.Rules()[0]
	db, table := r.TableGlob()
	if db != "shop_*" || table != `it\*m` {
		t.Errorf("TableGlob = %q, %q", db, table)
	}
	if want := `{u:*}:*:*\*`; r.Pattern() != want {
		t.Errorf("Pattern = %q, want %q", r.Pattern(), want)
	}
	if got := r.KeyColumns(); !slices.Equal(got, []string{"User", "id"}) {
		t.Errorf("KeyColumns = %q", got)
	}
	if got := r.Columns(); !slices.Equal(got, []string{"User", "id", "Price", "status", "stock"}) {
		t.Errorf("Columns = %q", got)
	}
	if r.At() != "keys.yaml:3" || r.Name() != "a" || r.Template() != "{{u:{User}}}:{id|lower}:{user}*" {
		t.Errorf("At, Name, Template = %q, %q, %q", r.At(), r.Name(), r.Template())
	}
}

func TestTableUnitesItsRules(t *testing.T) {
	s := parse(t,
		`{name: list, table: a.t, key: "all"}`,
		`{name: one, table: "a.*", key: "one:{x}:{Y}", columns: [z]}`,
		`{name: two, table: a.t, key: "two:{y}:{w}"}`)
	tab := s.Table("a", "t")
	if got := tab.Columns(); !slices.Equal(got, []string{"x", "Y", "z", "w"}) {
		t.Errorf("Columns = %q", got)
	}
	if got := tab.Route(); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("Route = %v: want the key columns of the first rule that has any", got)
	}
	if got := names(tab.Rules()); !slices.Equal(got, []string{"list", "one", "two"}) {
		t.Errorf("Rules = %q", got)
	}
	if s.Table("a", "u") != s.Table("a", "v") {
		t.Error("tables with the same rules do not share one Table")
	}
	if s.Table("b", "t") != nil {
		t.Error("a table without rules")
	}
}

func TestTableCacheIsBounded(t *testing.T) {
	s := parse(t, `{name: a, table: "s.t?????", key: "a:{id}"}`)
	first := s.Table("s", "t00000")
	b := first.Bind([]string{"id"})
	for i := range 2*maxTables + 10 {
		if s.Table("s", fmt.Sprintf("t%05d", i)) == nil {
			t.Fatal(i)
		}
		s.Table("other", fmt.Sprint(i))
		if len(s.tables) > maxTables {
			t.Fatalf("%d tables in the cache", len(s.tables))
		}
	}
	var r Result
	b.Append(&r, nil, []Value{{Number, "1"}})
	if !slices.Equal(r.Keys, []string{"a:1"}) {
		t.Errorf("an old binding gave %q", r.Keys)
	}
}

func TestConcurrentUse(t *testing.T) {
	s := parse(t, `{name: a, table: "s.t*", key: "a:{id}", when: "id > 3"}`)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 300 {
				tab := s.Table("s", fmt.Sprintf("t%d", i%50+g))
				var r Result
				tab.Bind(tab.Columns()).Append(&r, nil, []Value{{Number, fmt.Sprint(i)}})
				key, err := s.Key("a", i)
				if err != nil || i > 3 && (len(r.Keys) != 1 || r.Keys[0] != key) {
					t.Errorf("%d: %q, %q, %v", i, r.Keys, key, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestHash(t *testing.T) {
	const base = `{name: a, table: a.b, key: "x:{id|lower}", null: "!", columns: [p, q], when: "s = 'v' AND t <> 1"}`
	h := parse(t, base).Hash()
	if len(h) != 16 || strings.Trim(h, "0123456789abcdef") != "" {
		t.Fatalf("Hash = %q", h)
	}
	// The hash is in events: a change of it makes all tailers and invalidators
	// differ until all are updated, so it must not change by accident.
	if h != "41129452978595d6" {
		t.Errorf("Hash = %q", h)
	}
	same := []string{
		`{key: "x:{ id | lower }", null: '!', name: a, when: "s='v'   and t!=1 /* why */", table: "` + "`a`.b" + `", columns: [Q, P]} # comment`,
		`{name: a, table: a.b, key: "x:{ID|lower}", null: "!", columns: [p, q], when: "s == 'v' and t != 1"}`,
	}
	for _, rule := range same {
		if got := parse(t, rule).Hash(); got != h {
			t.Errorf("%s: hash %s, want %s", rule, got, h)
		}
	}
	seen := map[string]string{h: base}
	for _, change := range [][2]string{
		{"name: a", "name: b"}, {"a.b", "a.c"}, {"a.b", "b.b"}, {"x:", "y:"}, {"|lower", ""}, {"|lower", "|upper"}, {"{id", "{jd"}, {"}\"", "}:\""},
		{"null: \"!\"", "null: skip"}, {"null: \"!\"", "null: \"!!\""}, {"[p, q]", "[p]"}, {"columns: [p, q], ", ""},
		{"AND", "OR"}, {"'v'", "'w'"}, {"s = 'v'", "'v' = s"}, {"t <> 1", "t <> 2"}, {", when: \"s = 'v' AND t <> 1\"", ""},
	} {
		rule := strings.Replace(base, change[0], change[1], 1)
		got := parse(t, rule).Hash()
		if other, dup := seen[got]; dup {
			t.Errorf("same hash:\n%s\n%s", other, rule)
		}
		seen[got] = rule
	}
	const other = `{name: o, table: a.b, key: "o"}`
	if parse(t, base, other).Hash() == parse(t, other, base).Hash() {
		t.Error("the order of rules chooses partitions, and so is part of the meaning")
	}
}

func TestScope(t *testing.T) {
	s := parse(t,
		`{name: exact, table: shop.item, key: "a:{id}"}`,
		`{name: shard, table: "shop_*.item_??", key: "b:{id}"}`,
		"{name: quoted, table: \"shop.`it*m`\", key: \"c:{id}\"}")
	for _, c := range []struct{ db, table, want string }{
		{"", "", "exact shard quoted"},
		{"shop", "item", "exact"},
		{"shop", "", "exact quoted"},
		{"shop*", "item*", "exact shard"},
		{"shop_1", "", "shard"},
		{"*_1", "*_1?", "shard"},
		{"*", "*_1x?", ""},
		{"shop", `it\*m`, "quoted"},
		{"shop", "it?m", "exact quoted"},
		{"Shop", "", ""},
	} {
		if got := strings.Join(names(s.Scope(c.db, c.table)), " "); got != c.want {
			t.Errorf("Scope(%q, %q) = %q, want %q", c.db, c.table, got, c.want)
		}
	}
}

// TestScopeFindsMatchingTables: a table that both the scope and a rule match
// means that Scope returns the rule.
func TestScopeFindsMatchingTables(t *testing.T) {
	glob := rapid.StringMatching(`[ab?*é]{1,4}`)
	rapid.Check(t, func(t *rapid.T) {
		rule, scope := glob.Draw(t, "rule"), glob.Draw(t, "scope")
		name := rapid.StringMatching(`[abé]{1,4}`).Draw(t, "table")
		s, err := Parse("x", fmt.Appendf(nil, "version: 1\nkeys: [{name: r, table: \"d.%s\", key: \"k:{id}\"}]", rule))
		if err != nil {
			t.Fatal(err)
		}
		if s.Table("d", name) != nil && matchName(nameTokens(scope), name) && len(s.Scope("d", scope)) != 1 {
			t.Fatalf("table %q matches %q and %q, and Scope does not say so", name, rule, scope)
		}
	})
}

func TestMatchName(t *testing.T) {
	for _, c := range []struct {
		glob, name string
		want       bool
	}{
		{"item", "item", true}, {"item", "items", false}, {"item", "Item", false}, {"*", "", true}, {"?", "", false}, {"?", "é", true},
		{"*a*b", "xaxbxb", true}, {"*a*b", "xaxbx", false}, {"a*", "a", true}, {`\*`, "*", true}, {`\*`, "x", false}, {"**", "x", true},
		{strings.Repeat("*a", 30), strings.Repeat("a", 300) + "b", false},
	} {
		if got := matchName(nameTokens(c.glob), c.name); got != c.want {
			t.Errorf("%q matches %q: %v", c.glob, c.name, got)
		}
	}
}

func TestProtect(t *testing.T) {
	s := parse(t, `{name: item, table: a.b, key: "item:{id}"}`, `{name: cart, table: a.b, key: "{{user:{id}}}:cart"}`)
	if err := s.Protect([]string{"sess:*", "lock:*", "{user:*}:session"}); err != nil {
		t.Errorf("nothing overlaps, and yet: %v", err)
	}
	if err := s.Protect(nil); err != nil {
		t.Error(err)
	}
	err := s.Protect([]string{"i*", "*:cart"})
	want := `keys.yaml:3: rule "item": its keys "item:*" overlap the protected "i*": give the key another literal beginning, or narrow what is protected
keys.yaml:3: rule "item": its keys "item:*" overlap the protected "*:cart": give the key another literal beginning, or narrow what is protected
keys.yaml:4: rule "cart": its keys "{user:*}:cart" overlap the protected "*:cart": give the key another literal beginning, or narrow what is protected`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestWarnings(t *testing.T) {
	s := parse(t,
		`{name: user, table: a.user, key: "user:{name}"}`,
		`{name: same, table: a.profile, key: "user:{user_name}"}`,
		`{name: all, table: a.user, key: "user:all"}`,
		`{name: safe, table: a.user, key: "user:list:all"}`,
		`{name: admin, table: a.admin, key: "user:admin-{id}"}`,
		`{name: cart, table: a.cart, key: "user:{id}:cart"}`)
	var got []string
	for _, w := range s.Warnings() {
		got = append(got, strings.Join(strings.Fields(w)[:3], " "))
	}
	want := []string{`keys.yaml:5: rule "all":`, `keys.yaml:5: rule "all":`, `keys.yaml:7: rule "admin":`, `keys.yaml:7: rule "admin":`}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q:\n%s", got, want, strings.Join(s.Warnings(), "\n"))
	}
}

func TestResultReset(t *testing.T) {
	s := parse(t, `{name: a, table: a.b, key: "a:{x}:{y}", when: "x = 1"}`)
	b := s.Table("a", "b").Bind([]string{"x"})
	var r Result
	for range 2 {
		r.Reset()
		b.Append(&r, nil, []Value{{Text, "x"}})
		if len(r.Keys) != 0 || len(r.Doubts) != 1 || r.WhenErrors != 1 {
			t.Fatalf("%+v", r)
		}
	}
}

// TestNoImage: a change of which nothing is known is a doubt, not nothing (I8).
func TestNoImage(t *testing.T) {
	s := parse(t, `{name: a, table: a.b, key: "a:{x}"}`, `{name: all, table: a.b, key: "all"}`)
	var r Result
	s.Table("a", "b").Bind(nil).Append(&r, nil, nil)
	if len(r.Doubts) != 1 || r.Doubts[0].Rule.Name() != "a" || !slices.Equal(r.Keys, []string{"all"}) {
		t.Errorf("%+v", r)
	}
}
