package keys

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// ruleText is a generated rule: its template's parts and its text for NULL.
type ruleText struct {
	literals []string // one more than there are placeholders; with braces doubled they are the template
	null     string
}

func (r ruleText) template() string {
	double := strings.NewReplacer("{", "{{", "}", "}}")
	var b strings.Builder
	for i, l := range r.literals {
		if i > 0 {
			fmt.Fprintf(&b, "{c%d}", i-1)
		}
		b.WriteString(double.Replace(l))
	}
	return b.String()
}

// schemaOf writes rules r0, r1, … of table t.t and parses them.
func schemaOf(t errorer, rules ...ruleText) *Schema {
	t.Helper()
	var b strings.Builder
	b.WriteString("version: 1\nkeys:\n")
	quote := func(s string) string {
		q, _ := json.Marshal(s)
		return string(q)
	}
	for i, r := range rules {
		fmt.Fprintf(&b, "  - {name: r%d, table: t.t, key: %s", i, quote(r.template()))
		if r.null != "" {
			fmt.Fprintf(&b, ", null: %s", quote(r.null))
		}
		b.WriteString("}\n")
	}
	s, err := Parse("generated", []byte(b.String()))
	if err != nil {
		t.Fatalf("parse:\n%s%v", b.String(), err)
	}
	return s
}

var literalPieces = []string{"a", "b", ":", "::", "/", "{", "}", "{a}", "*", "[", "\\", "%", "%3A", "-", "é", "|", "null", "~"}

// genRule generates valid rules with up to 3 placeholders.
func genRule() *rapid.Generator[ruleText] {
	literal := func(least int) *rapid.Generator[string] {
		return rapid.Map(rapid.SliceOfN(rapid.SampledFrom(literalPieces), least, 3), func(p []string) string { return strings.Join(p, "") })
	}
	return rapid.Custom(func(t *rapid.T) ruleText {
		r := ruleText{literals: []string{literal(1).Draw(t, "prefix")}}
		for i := range rapid.IntRange(0, 3).Draw(t, "placeholders") {
			if i > 0 {
				r.literals[i] += rapid.SampledFrom([]string{":", "/", "|"}).Draw(t, "separator") + literal(0).Draw(t, "between")
			}
			r.literals = append(r.literals, literal(0).Draw(t, "after"))
		}
		r.null = rapid.SampledFrom([]string{"", "!null", "a!", "#", "null(:)", ":", "a:", "/n"}).Draw(t, "null")
		if tmpl, err := parseTemplate(r.template()); err != nil || r.null != "" && tmpl.checkNull(r.null) != nil {
			r.null = ""
		}
		return r
	})
}

// genTuple generates values for a rule; NULL only where it makes a key.
func genTuple(r ruleText) *rapid.Generator[[]Value] {
	if len(r.literals) == 1 {
		return rapid.Just([]Value{})
	}
	return rapid.Custom(func(t *rapid.T) []Value {
		var vals []Value
		for range len(r.literals) - 1 {
			if r.null != "" && rapid.IntRange(0, 3).Draw(t, "is null") == 0 {
				vals = append(vals, Value{Kind: Null})
			} else {
				vals = append(vals, Value{Text, hostileText().Draw(t, "value")})
			}
		}
		return vals
	})
}

func anys(vals []Value) []any {
	out := make([]any, len(vals))
	for i, v := range vals {
		out[i] = v
	}
	return out
}

func mustKey(t errorer, s *Schema, rule string, vals []Value) string {
	t.Helper()
	key, err := s.Key(rule, anys(vals)...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return key
}

// TestKeysAreInjective: different values never make the same key of a rule.
func TestKeysAreInjective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rule := genRule().Draw(t, "rule")
		s := schemaOf(t, rule)
		seen := map[string][]Value{}
		for _, vals := range rapid.SliceOfN(genTuple(rule), 2, 8).Draw(t, "tuples") {
			key := mustKey(t, s, "r0", vals)
			if other, ok := seen[key]; ok && !slices.Equal(other, vals) {
				t.Fatalf("%s: %v and %v make the same key %q", rule.template(), other, vals, key)
			}
			seen[key] = vals
		}
	})
}

// TestKeysParseBack: the values can be read back from a key, which proves
// injectivity for all values, not only for pairs that happen to be drawn.
func TestKeysParseBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rule := genRule().Draw(t, "rule")
		s := schemaOf(t, rule)
		vals := genTuple(rule).Draw(t, "values")
		key := mustKey(t, s, "r0", vals)
		back, err := parseBack(rule, key)
		if err != nil {
			t.Fatalf("%s: key %q: %v", rule.template(), key, err)
		}
		for i, v := range vals {
			enc := rule.null
			if v.Kind == Text {
				enc = reference(v.Text, s.rules[0].template.holes[i].bare)
			}
			if back[i] != enc {
				t.Fatalf("%s: key %q: value %d reads back as %q, was %q", rule.template(), key, i, back[i], enc)
			}
		}
	})
}

// parseBack splits a key into its encoded values, as docs/schema.md says that
// it can be done: from the left, a value ends before the first separating byte
// and what the literal has before its own.
func parseBack(r ruleText, key string) ([]string, error) {
	rest, ok := strings.CutPrefix(key, r.literals[0])
	if !ok {
		return nil, fmt.Errorf("no prefix %q", r.literals[0])
	}
	var vals []string
	for i := 1; i < len(r.literals); i++ {
		lit := r.literals[i]
		if i == len(r.literals)-1 {
			v, ok := strings.CutSuffix(rest, lit)
			if !ok {
				return nil, fmt.Errorf("no suffix %q in %q", lit, rest)
			}
			return append(vals, v), nil
		}
		end := firstSeparator(rest) - firstSeparator(lit)
		if r.null != "" && strings.HasPrefix(rest, r.null) && firstSeparator(rest) == firstSeparator(r.null) {
			end = len(r.null)
		}
		if end < 0 || !strings.HasPrefix(rest[end:], lit) {
			return nil, fmt.Errorf("no %q in %q", lit, rest)
		}
		vals, rest = append(vals, rest[:end]), rest[end+len(lit):]
	}
	return vals, nil
}

// TestRulesDoNotForgeEachOther: keys of two rules differ unless the templates
// have the same literals, or Warnings says so.
func TestRulesDoNotForgeEachOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genRule().Draw(t, "a"), genRule().Draw(t, "b")
		a.null, b.null = "", ""
		if rapid.Bool().Draw(t, "common beginning") {
			b.literals[0] = a.literals[0]
		}
		s := schemaOf(t, a, b)
		if slices.Equal(a.literals, b.literals) || len(s.Warnings()) > 0 {
			return
		}
		for range 5 {
			ka := mustKey(t, s, "r0", genTuple(a).Draw(t, "a values"))
			kb := mustKey(t, s, "r1", genTuple(b).Draw(t, "b values"))
			if ka == kb {
				t.Fatalf("%s and %s both make %q, and there is no warning", a.template(), b.template(), ka)
			}
		}
	})
}

// TestPatternMatchesKeys: whole-table invalidation finds every key, and has a
// literal beginning to look for.
func TestPatternMatchesKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rule := genRule().Draw(t, "rule")
		s := schemaOf(t, rule)
		pattern := s.Rules()[0].Pattern()
		if strings.IndexAny(pattern, "*?[") == 0 {
			t.Fatalf("pattern %q has no literal beginning", pattern)
		}
		key := mustKey(t, s, "r0", genTuple(rule).Draw(t, "values"))
		if !redisMatch(pattern, key) {
			t.Fatalf("pattern %q does not match %q", pattern, key)
		}
	})
}

// TestKeyAndAppendAgree: an application and the invalidator build the same bytes.
func TestKeyAndAppendAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rule := genRule().Draw(t, "rule")
		s := schemaOf(t, rule)
		var app []any
		var row []Value
		for range len(rule.literals) - 1 {
			v, val := goValue(t)
			app, row = append(app, v), append(row, val)
		}
		want, err := s.Key("r0", app...)
		if err != nil {
			t.Fatalf("%v", err)
		}
		var r Result
		s.Table("t", "t").Bind(s.Rules()[0].Columns()).Append(&r, nil, append([]Value{}, row...))
		if !slices.Equal(r.Keys, []string{want}) || len(r.Doubts) > 0 {
			t.Fatalf("application %q, invalidator %q, doubts %v", want, r.Keys, r.Doubts)
		}
	})
}

// goValue draws a Go value and what the tailer makes of it.
func goValue(t *rapid.T) (any, Value) {
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		v := rapid.Int64().Draw(t, "int64")
		return v, Value{Number, fmt.Sprint(v)}
	case 1:
		v := rapid.Uint64().Draw(t, "uint64")
		return v, Value{Number, fmt.Sprint(v)}
	case 2:
		v := rapid.SliceOf(rapid.Byte()).Draw(t, "binary")
		if v == nil {
			v = []byte{}
		}
		return v, Value{Text, fmt.Sprintf("%x", v)}
	case 3:
		v := rapid.Bool().Draw(t, "bool")
		return v, Value{Number, map[bool]string{true: "1", false: "0"}[v]}
	}
	v := hostileText().Draw(t, "text")
	return v, Value{Text, v}
}
