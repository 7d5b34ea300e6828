package keys

import "testing"

func FuzzKey(f *testing.F) {
	f.Add("k:{a}:{b}", "x:y", "z", "!null", true)
	f.Add("{{u:{a}}}:{b}", "}", "", "", false)
	f.Add("c:{{{a}}}/{b}", "", "%-", "!", false)
	f.Fuzz(func(t *testing.T, source, a, b, null string, aNull bool) {
		tmpl, err := parseTemplate(source)
		if err != nil || len(tmpl.cols) != 2 || len(tmpl.holes) != 2 || len(tmpl.holes[0].filters)+len(tmpl.holes[1].filters) > 0 {
			return
		}
		rule := ruleText{[]string{tmpl.prefix, tmpl.holes[0].after, tmpl.holes[1].after}, ""}
		if null != "" && tmpl.checkNull(null) == nil {
			rule.null = null
		}
		s := &Schema{rules: []*Rule{{name: "r0", template: tmpl, null: rule.null}}}
		s.byName = map[string]*Rule{"r0": s.rules[0]}
		vals := []Value{{Text, a}, {Text, b}}
		if aNull && rule.null != "" {
			vals[0] = Value{Kind: Null}
		}
		key := mustKey(t, s, "r0", vals)
		back, err := parseBack(rule, key)
		if err != nil {
			t.Fatalf("%q: %v", key, err)
		}
		if !aNull || rule.null == "" {
			if want := reference(a, tmpl.holes[0].bare); back[0] != want {
				t.Fatalf("%q: first value %q, want %q", key, back[0], want)
			}
		}
		if want := reference(b, tmpl.holes[1].bare); back[1] != want {
			t.Fatalf("%q: second value %q, want %q", key, back[1], want)
		}
		tag := expectedTag(rule, vals, tmpl)
		if tag == "" {
			tag = key
		}
		if slot(key) != crc16(tag)%16384 {
			t.Fatalf("%q: the slot is not that of %q", key, tag)
		}
		if !redisMatch(tmpl.pattern(), key) {
			t.Fatalf("pattern %q does not match %q", tmpl.pattern(), key)
		}
	})
}
