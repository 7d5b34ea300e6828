package keys

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// vectors is testdata/vectors.json: what an implementation of the key protocol
// in another language must give. docs/schema.md explains it.
type vectors struct {
	Encode    []encodeVector    `json:"encode"`
	Filters   []filterVector    `json:"filters"`
	Keys      []keyVector       `json:"keys"`
	Canonical []canonicalVector `json:"canonical"`
}

type encodeVector struct {
	Text    *string `json:"text,omitempty"` // the value, if it is valid UTF-8
	Hex     string  `json:"hex"`            // its bytes
	Encoded string  `json:"encoded"`
}

type filterVector struct {
	Filter string `json:"filter"`
	In     string `json:"in"`
	Out    string `json:"out"`
}

type keyVector struct {
	Template string    `json:"template"`
	Null     string    `json:"null,omitempty"`
	Values   []*string `json:"values"` // null is SQL NULL
	Key      string    `json:"key"`
	Pattern  string    `json:"pattern"`
	Slot     uint16    `json:"slot"`
}

type canonicalVector struct {
	Type  string `json:"type"`
	Value string `json:"value"` // as people or ISO 8601 write it
	Text  string `json:"text"`
}

func TestVectors(t *testing.T) {
	v := vectors{encodeVectors(t), filterVectors(t), keyVectors(t), canonicalVectors(t)}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/vectors.json", out.String())
}

func encodeVectors(t *testing.T) (out []encodeVector) {
	for _, s := range []string{
		"", "42", "-1.50", "a-b.c_d~e@f+g", "a b", "a:b", "100%", "%41", "%~", "{x}", "}{", "line\nbreak", "tab\t", "\x00", "\x7f", "*?[]\\", "\"'`",
		"!#$&()/;<=>|^,", "Zoë", "東京", "😀", "a\u0301", "\u0080\u009f", "\u00a0", "\u200b", "\ufdcf\ufdd0\ufdef\ufdf0", "\ufffd\ufffe\uffff", "\U0010fffd\U0010fffe",
		"\xff", "\xc0\xaf", "\xe6\x9d", "\xe6\x9d\xc3\xa9", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf0\x9f\x98",
		strings.Repeat("a", 200), strings.Repeat("a", 201), strings.Repeat(":", 66), strings.Repeat(":", 67), strings.Repeat("é", 100), strings.Repeat("é", 101),
		strings.Repeat("\xff", 67),
	} {
		checkEncoding(t, s, false)
		v := encodeVector{Hex: hex.EncodeToString([]byte(s)), Encoded: string(appendValue(nil, s, false))}
		if utf8.ValidString(s) {
			v.Text = &s
		}
		out = append(out, v)
	}
	return out
}

func filterVectors(t *testing.T) (out []filterVector) {
	for _, c := range [][2]string{
		{"lower", "ALICE"}, {"lower", "ÀÉÎ"}, {"lower", "ΣΑΣ"}, {"lower", "İ"}, {"lower", "ẞ"}, {"lower", "Ⅷ"}, {"lower", "ǅ"},
		{"upper", "straße"}, {"upper", "ı"}, {"upper", "ǆ"}, {"upper", "ﬁ"}, {"upper", "ÿ"}, {"upper", "𐐨"},
		{"trim", "a  "}, {"trim", " a \t "}, {"trim", "   "}, {"trim", "a\u00a0"},
		{"date", "2026-03-01 23:59:59.999"}, {"date", "2026-03-01"}, {"date", "0000-00-00 00:00:00"},
	} {
		f, err := findFilter(c[0])
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.apply(c[1])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, filterVector{c[0], c[1], got})
	}
	return out
}

func keyVectors(t *testing.T) (out []keyVector) {
	text := func(s string) *string { return &s }
	for _, c := range []keyVector{
		{Template: "item:{id}", Values: []*string{text("42")}},
		{Template: "catalog:all", Values: []*string{}},
		{Template: "category:{category}:items", Values: []*string{text("garden & home")}},
		{Template: "price:{sku|trim|lower}", Values: []*string{text("AB-7 ")}},
		{Template: "pair:{a}:{b}:{a}", Values: []*string{text("x:y"), text("")}},
		{Template: "{{user:{id}}}:cart", Values: []*string{text("7")}},
		{Template: "{{user:{id}}}:cart", Values: []*string{text("}7{")}},
		{Template: "cart:{{{name}}}", Values: []*string{text("ann")}},
		{Template: "cart:{{{name}}}", Values: []*string{text("")}},
		{Template: "n:{a}:{b}", Null: "!null", Values: []*string{nil, text("!null")}},
		{Template: "cart:{{{name}}}", Null: "!", Values: []*string{nil}},
		{Template: "50% *[x]*\\{id}?", Values: []*string{text("1")}},
		{Template: "doc:{`the title`}", Values: []*string{text(strings.Repeat("long ", 60))}},
		{Template: "Größe/{x}/ü", Values: []*string{text("ÄÖ")}},
	} {
		tmpl, err := parseTemplate(c.Template)
		if err != nil {
			t.Fatal(err)
		}
		vals := make([]Value, len(c.Values))
		for i, v := range c.Values {
			vals[i] = Value{Kind: Null}
			if v != nil {
				vals[i] = Value{Text, *v}
			}
		}
		r := Rule{name: "r", template: tmpl, null: c.Null}
		key, bad := r.append(nil, vals)
		if bad.failed() {
			t.Fatalf("%s: %+v", c.Template, bad)
		}
		c.Key, c.Pattern, c.Slot = string(key), tmpl.pattern(), slot(string(key))
		out = append(out, c)
	}
	return out
}

func canonicalVectors(t *testing.T) []canonicalVector {
	zone := time.FixedZone("", 2*60*60)
	at := time.Date(2026, 7, 1, 0, 30, 5, 120_000_000, zone)
	iso := at.Format(time.RFC3339Nano)
	decimal := func(s string, scale int) string {
		got, err := Decimal(s, scale)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	return []canonicalVector{
		{"BIGINT", "-9223372036854775808", "-9223372036854775808"},
		{"BIGINT UNSIGNED", "18446744073709551615", "18446744073709551615"},
		{"INT ZEROFILL", "00042", "42"},
		{"TINYINT(1)", "true", "1"},
		{"DECIMAL(10,2)", "12.5", decimal("12.5", 2)},
		{"DECIMAL(10,2)", "-0", decimal("-0", 2)},
		{"DECIMAL(20,0)", "+12345678901234567890", decimal("+12345678901234567890", 0)},
		{"YEAR", "2026", "2026"},
		{"YEAR", "0000", "0"},
		{"BIT(64)", "0xFFFFFFFFFFFFFFFF", Bit(1<<64 - 1)},
		{"BINARY(4)", "bytes DE AD 00 00", Binary([]byte{0xDE, 0xAD, 0, 0})},
		{"DATE", iso, Date(at)},
		{"DATETIME", iso, DateTime(at, 0)},
		{"DATETIME(3)", iso, DateTime(at, 3)},
		{"TIMESTAMP", iso, Timestamp(at, 0)},
		{"TIMESTAMP(6)", iso, Timestamp(at, 6)},
		{"TIME", "PT100H2M3S", Time(100*time.Hour+2*time.Minute+3*time.Second, 0)},
		{"TIME(2)", "-PT0.5S", Time(-time.Second/2, 2)},
		{"SET('a','b','c')", "c and a", "a,c"},
	}
}
