package pipeline

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
)

var (
	null   = keys.Value{Kind: keys.Null}
	absent = keys.Value{Kind: keys.Absent}
)

func number(s string) keys.Value { return keys.Value{Kind: keys.Number, Text: s} }
func text(s string) keys.Value   { return keys.Value{Kind: keys.Text, Text: s} }

// encode writes an event of any kind, with the code that the tailer uses.
func encode(t interface{ Fatal(...any) }, e *Event) []byte {
	if e.Kind == KindInvalidate {
		return encodeInvalidate(e)
	}
	if e.Kind == KindProgress {
		return encodeProgress(e)
	}
	if e.Kind == KindKeys {
		return encodeKeys(e)
	}
	var w eventWriter
	w.begin(e)
	for i := range e.Tables {
		for _, r := range e.Tables[i].Rows {
			if err := w.add(&e.Tables[i], r); err != nil {
				t.Fatal(err)
			}
		}
	}
	return w.end()
}

// sameEvent compares what two events say: a time in any zone is the same time.
func sameEvent(a, b *Event) bool {
	x, y := *a, *b
	x.CommittedAt, y.CommittedAt = time.Time{}, time.Time{}
	return a.CommittedAt.Equal(b.CommittedAt) && reflect.DeepEqual(x, y)
}

// Another writer may order fields otherwise, put spaces in, and add fields.
func TestDecodeTolerates(t *testing.T) {
	want := golden["changes"]
	want.Version = Version
	var any map[string]json.RawMessage
	if err := json.Unmarshal(encode(t, want), &any); err != nil {
		t.Fatal(err)
	}
	any["a_new_field"] = json.RawMessage(`{"deep": [1, -2.5e3, true, false, null, {"x": "\ud83d\ude00"}]}`)
	data, err := json.MarshalIndent(any, "\t", "  ") // sorts the fields
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeEvent(data)
	if err != nil || !sameEvent(got, want) {
		t.Errorf("read %+v, %v", got, err)
	}
	for in, want := range map[string]string{
		`\ud83d\ude00`: "\U0001F600", `\u00e9\/\b\f\n\r\t\"\\`: "é/\b\f\n\r\t\"\\", `\uFFFD`: "\uFFFD", `\u0000x`: "\x00x",
	} {
		e, err := DecodeEvent([]byte(`{"v":1,"kind":"invalidate","scopes":[{}],"reason":"` + in + `"}`))
		if err != nil || e.Reason != want {
			t.Errorf("%s is read as %+v, %v, want %q", in, e, err, want)
		}
	}
}

// What is not certain is refused, so that everything is invalidated (I8).
func TestDecodeRefuses(t *testing.T) {
	row := func(s string) string {
		return `{"v":1,"kind":"changes","tables":[{"db":"d","table":"t","columns":["a"],"rows":[` + s + `]}]}`
	}
	if _, err := DecodeEvent([]byte(row(`{"after":[1]}`))); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]string{
		"empty":               ``,
		"not JSON":            `hello`,
		"cut off":             row(`{"after":[1]}`)[:40],
		"something follows":   row(`{"after":[1]}`) + `{}`,
		"a NUL follows":       row(`{"after":[1]}`) + "\x00",
		"another version":     strings.Replace(row(`{"after":[1]}`), `"v":1`, `"v":2`, 1),
		"no version":          strings.Replace(row(`{"after":[1]}`), `"v":1,`, ``, 1),
		"another kind":        `{"v":1,"kind":"prepared","tables":[]}`,
		"no kind":             `{"v":1}`,
		"a list":              `[]`,
		"no tables":           `{"v":1,"kind":"changes"}`,
		"no rows":             row(``),
		"no rows field":       `{"v":1,"kind":"changes","tables":[{"db":"d","table":"t","columns":["a"],"row":[]}]}`,
		"no table name":       strings.Replace(row(`{"after":[1]}`), `"t"`, `""`, 1),
		"no scopes":           `{"v":1,"kind":"invalidate","reason":"x"}`,
		"progress of none":    `{"v":1,"kind":"progress","partition":0}`,
		"progress beyond":     `{"v":1,"kind":"progress","partition":2,"partitions":2}`,
		"progress below":      `{"v":1,"kind":"progress","partition":-1,"partitions":2}`,
		"progress and scopes": `{"v":1,"kind":"progress","partitions":2,"scopes":[{}]}`,
		"no image":            row(`{}`),
		"null image":          row(`{"after":null}`),
		"too many values":     row(`{"after":[1,2]}`),
		"a value is a list":   row(`{"after":[[1]]}`),
		"a value is true":     row(`{"after":[true]}`),
		"a value has fields":  row(`{"after":[{"a":1}]}`),
		"a bad number":        row(`{"after":[01]}`),
		"a bare dot":          row(`{"after":[1.]}`),
		"a bare exponent":     row(`{"after":[1e]}`),
		"not UTF-8":           row("{\"after\":[\"\xff\"]}"),
		"a raw newline":       row("{\"after\":[\"\n\"]}"),
		"half a pair":         row(`{"after":["\ud83d"]}`),
		"the wrong half":      row(`{"after":["\ude00\ud83d"]}`),
		"half and a letter":   row(`{"after":["\ud83dx"]}`),
		"an unknown escape":   row(`{"after":["\x41"]}`),
		"a short escape":      row(`{"after":["\u12"]}`),
		"a bad hex digit":     row("{\"after\":[\"\\u00\x10g\"]}"),
		"a text not closed":   `{"v":1,"kind":"changes`,
		"an escape not ended": `{"v":1,"kind":"cha\`,
		"a float as seq":      `{"v":1,"kind":"invalidate","scopes":[{}],"seq":1.5}`,
		"a seq too large":     `{"v":1,"kind":"invalidate","scopes":[{}],"seq":99999999999999999999}`,
		"nested without end":  `{"v":1,"kind":"invalidate","scopes":[{}],"x":` + strings.Repeat("[", 1<<20),
	} {
		if e, err := DecodeEvent([]byte(in)); err == nil {
			t.Errorf("%s: read as %+v", name, e)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	var w eventWriter
	w.begin(&Event{Kind: KindChanges})
	good := &TableRows{DB: "d", Table: "t", Columns: []string{"a"}}
	if err := w.add(good, Row{After: []keys.Value{number("1")}}); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []keys.Value{text("\xff"), number("01"), number(""), number("1 "), number("NaN"), number("+1")} {
		for _, table := range []*TableRows{good, {DB: "d", Table: "u", Columns: []string{"a"}}} {
			if err := w.add(table, Row{Before: []keys.Value{number("1")}, After: []keys.Value{bad}}); err == nil {
				t.Errorf("wrote %q", bad.Text)
			}
		}
	}
	for _, table := range []*TableRows{{DB: "\xff", Table: "t"}, {DB: "d", Table: "\xff"}, {DB: "d", Table: "u", Columns: []string{"\xff"}}} {
		if err := w.add(table, Row{After: []keys.Value{}}); err == nil {
			t.Errorf("wrote the names of %+q", *table)
		}
	}
	if err := w.add(good, Row{Before: []keys.Value{null}}); err != nil {
		t.Fatal(err)
	}
	e, err := DecodeEvent(w.end())
	want := []TableRows{{DB: "d", Table: "t", Columns: []string{"a"}, Rows: []Row{
		{After: []keys.Value{number("1")}}, {Before: []keys.Value{null}},
	}}}
	if err != nil || !reflect.DeepEqual(e.Tables, want) {
		t.Errorf("after refusals the event is %+v, %v", e, err)
	}
}
