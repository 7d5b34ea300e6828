package pipeline

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/doubletap-cdc/doubletap/keys"
)

var update = flag.Bool("update", false, "write the golden files anew")

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

const goldenGTID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

var goldenAt = time.UnixMicro(1_722_500_000_123_456)

// golden is one event for each form that a reader has to know.
var golden = map[string]*Event{
	"changes": {
		Kind: KindChanges, Source: "shop", GTID: goldenGTID + ":23", Seq: 0, CommittedAt: goldenAt, Schema: "8f2b1c3d4e5f6071",
		Tables: []TableRows{
			{DB: "shop", Table: "item", Columns: []string{"id", "category", "price"}, Rows: []Row{
				{After: []keys.Value{number("42"), text("tea"), number("9.90")}},
				{Before: []keys.Value{number("43"), text("tea"), number("1.50")}, After: []keys.Value{number("43"), text("café \"noir\""), number("2.00")}},
				{Before: []keys.Value{number("44"), null, number("0.00")}},
			}},
			{DB: "shop", Table: "orders", Columns: []string{"id", "user_id"}, Rows: []Row{
				{Before: []keys.Value{number("7"), absent}, After: []keys.Value{absent, number("18446744073709551615")}},
			}},
		},
	},
	"no-columns": {
		Kind: KindChanges, Source: "shop", GTID: goldenGTID + ":24", Seq: 3, Schema: "8f2b1c3d4e5f6071",
		Tables: []TableRows{{DB: "shop", Table: "settings", Rows: []Row{{Before: []keys.Value{}, After: []keys.Value{}}}}},
	},
	"invalidate": {
		Kind: KindInvalidate, Source: "shop", GTID: goldenGTID + ":25", Seq: 0, CommittedAt: goldenAt, Schema: "8f2b1c3d4e5f6071",
		Scopes: []Scope{{DB: "shop", Table: "item"}, {DB: "shop", Table: "cart_*"}}, Reason: "TRUNCATE TABLE",
	},
	"everything": {
		Kind: KindInvalidate, Source: "shop", GTID: goldenGTID + ":1-25", Schema: "8f2b1c3d4e5f6071",
		Scopes: []Scope{Everything}, Reason: "first start",
	},
	"keys": {
		Kind: KindKeys, Source: "shop", GTID: goldenGTID + ":1-25", Seq: 1, Schema: "8f2b1c3d4e5f6071",
		Keys: []string{"item:42", "user:café:cart"}, Patterns: []string{"old:item:*"}, Reason: "a replay of a list of keys",
	},
	"replayed": {
		Kind: KindChanges, Source: "shop", GTID: goldenGTID + ":1-25", Schema: "8f2b1c3d4e5f6071", KeysBy: "1f0e2d3c4b5a6978",
		Tables: []TableRows{{DB: "shop", Table: "item", Columns: []string{"id"}, Rows: []Row{{After: []keys.Value{number("42")}}}}},
	},
	"progress": {
		Kind: KindProgress, Source: "shop", GTID: goldenGTID + ":1-25", Schema: "8f2b1c3d4e5f6071",
		Partition: 3, Partitions: 8,
	},
}

func TestGoldenEvents(t *testing.T) {
	files, err := filepath.Glob("testdata/events/*.json")
	if err != nil || !*update && len(files) != len(golden) {
		t.Errorf("%d golden files, want %d (%v)", len(files), len(golden), err)
	}
	for name, e := range golden {
		e.Version = Version
		file := filepath.Join("testdata/events", name+".json")
		got := append(encode(t, e), '\n')
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s: wrote\n%s, the file says\n%s; records in the log are of the file's form", name, got, want)
		}
		back, err := DecodeEvent(want)
		if err != nil || !sameEvent(back, e) {
			t.Errorf("%s: read\n%+v, %v, want\n%+v", name, back, err, e)
		}
	}
}

// The examples in the description of the format are the golden files.
func TestDocumentedEvents(t *testing.T) {
	doc, err := os.ReadFile("../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range golden {
		example, err := os.ReadFile(filepath.Join("testdata/events", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(doc), "\n```json\n"+string(example)+"```\n") {
			t.Errorf("docs/events.md does not show %s.json as it is:\n%s", name, example)
		}
	}
}

func genText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.SampledFrom([]string{"", "\"", "\\", "\x00", "\n", "\u2028", "<&>", "}]", "\U0001F600", "\uFFFD", "\x7f"}),
	)
}

func genEvent() *rapid.Generator[*Event] {
	value := rapid.Custom(func(t *rapid.T) keys.Value {
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			return null
		case 1:
			return absent
		case 2:
			return number(rapid.StringMatching(`-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,10})?`).Draw(t, "number"))
		default:
			return text(genText().Draw(t, "text"))
		}
	})
	name := rapid.StringMatching(`[a-zé"\\]{1,8}`)
	table := rapid.Custom(func(t *rapid.T) TableRows {
		tr := TableRows{DB: name.Draw(t, "db"), Table: name.Draw(t, "table"), Columns: rapid.SliceOfN(genText(), 1, 4).Draw(t, "columns")}
		for range rapid.IntRange(1, 6).Draw(t, "rows") {
			image := func(label string) []keys.Value { return rapid.SliceOfN(value, 0, len(tr.Columns)).Draw(t, label) }
			switch rapid.IntRange(0, 2).Draw(t, "op") {
			case 0:
				tr.Rows = append(tr.Rows, Row{After: image("after")})
			case 1:
				tr.Rows = append(tr.Rows, Row{Before: image("before")})
			default:
				tr.Rows = append(tr.Rows, Row{Before: image("before"), After: image("after")})
			}
		}
		return tr
	})
	return rapid.Custom(func(t *rapid.T) *Event {
		e := &Event{
			Version: Version, Kind: KindChanges, Source: genText().Draw(t, "source"), GTID: genText().Draw(t, "gtid"),
			Seq: rapid.IntRange(0, 1<<40).Draw(t, "seq"), Schema: genText().Draw(t, "schema"), KeysBy: genText().Draw(t, "keys_by"),
		}
		if us := rapid.Int64Range(0, 1<<52).Draw(t, "committed"); us != 0 {
			e.CommittedAt = time.UnixMicro(us)
		}
		if rapid.IntRange(0, 9).Draw(t, "progress") == 0 {
			e.Kind, e.Partitions = KindProgress, rapid.IntRange(1, 1000).Draw(t, "partitions")
			e.Partition = rapid.IntRange(0, e.Partitions-1).Draw(t, "partition")
			return e
		}
		if rapid.IntRange(0, 4).Draw(t, "keys") == 0 {
			e.Kind, e.Reason = KindKeys, genText().Draw(t, "reason")
			e.Keys = rapid.SliceOf(rapid.StringN(1, 40, -1)).Draw(t, "keys")
			e.Patterns = rapid.SliceOf(rapid.StringMatching(`[a-z:é]{1,8}(\*|\?|\[a-z\]|\\\*){0,3}`)).Draw(t, "patterns")
			if len(e.Keys)+len(e.Patterns) == 0 {
				e.Keys = []string{"one"}
			}
			e.Keys, e.Patterns = orNil(e.Keys), orNil(e.Patterns)
			return e
		}
		if rapid.Bool().Draw(t, "invalidate") {
			e.Kind, e.Reason = KindInvalidate, genText().Draw(t, "reason")
			for range rapid.IntRange(1, 3).Draw(t, "scopes") {
				e.Scopes = append(e.Scopes, Scope{DB: genText().Draw(t, "db"), Table: genText().Draw(t, "table")})
			}
			return e
		}
		e.Tables = rapid.SliceOfN(table, 1, 3).Draw(t, "tables")
		for i := 1; i < len(e.Tables); i++ { // neighbours of one table are written as one
			e.Tables[i].DB = e.Tables[i-1].DB + "x"
		}
		return e
	})
}

// orNil is what is read of a list that was left out.
func orNil(texts []string) []string {
	if len(texts) == 0 {
		return nil
	}
	return texts
}

func TestEventRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genEvent().Draw(t, "event")
		data := encode(t, e)
		if !json.Valid(data) {
			t.Fatalf("not JSON: %s", data)
		}
		back, err := DecodeEvent(data)
		if err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		if !sameEvent(e, back) {
			t.Fatalf("read\n%+v, wrote\n%+v: %s", back, e, data)
		}
	})
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

func FuzzDecodeEvent(f *testing.F) {
	for _, e := range golden {
		f.Add(encode(f, e))
	}
	f.Add([]byte(`{"v":1,"kind":"invalidate","scopes":[{}],"x":{"y":[1e9,"\ud83d\ude00"]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := DecodeEvent(data)
		if err != nil {
			return
		}
		if !json.Valid(data) || !utf8.Valid(data) {
			t.Fatalf("took what is not JSON: %q", data)
		}
		if e.Kind == KindChanges && len(e.Scopes) > 0 || e.Kind == KindInvalidate && len(e.Tables) > 0 {
			return // the writers make no such events
		}
		e.Reason = map[bool]string{true: e.Reason}[e.Kind == KindInvalidate]
		if e.Kind != KindProgress {
			e.Partition, e.Partitions = 0, 0
		}
		again := encode(t, e)
		back, err := DecodeEvent(again)
		if err != nil {
			t.Fatalf("%v: %s", err, again)
		}
		if !sameEvent(joined(e), joined(back)) {
			t.Fatalf("read %+v, then %+v", e, back)
		}
	})
}

// joined merges neighbours of one table, as the writer does.
func joined(e *Event) *Event {
	j := *e
	j.Tables = nil
	for _, t := range e.Tables {
		if n := len(j.Tables); n > 0 && j.Tables[n-1].DB == t.DB && j.Tables[n-1].Table == t.Table && reflect.DeepEqual(j.Tables[n-1].Columns, t.Columns) {
			j.Tables[n-1].Rows = append(j.Tables[n-1].Rows[:len(j.Tables[n-1].Rows):len(j.Tables[n-1].Rows)], t.Rows...)
			continue
		}
		j.Tables = append(j.Tables, t)
	}
	return &j
}
