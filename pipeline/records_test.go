package pipeline

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/doubletap-cdc/doubletap/keys"
)

// said is what events say, whatever records it is in.
type said struct {
	rows           map[string][]Row // by table and columns
	scopes         []Scope
	keys, patterns []string
}

func (s *said) add(e *Event) {
	for _, t := range e.Tables {
		id := fmt.Sprintf("%q", append([]string{t.DB, t.Table}, t.Columns...))
		if s.rows == nil {
			s.rows = map[string][]Row{}
		}
		s.rows[id] = append(s.rows[id], t.Rows...)
	}
	s.scopes = append(s.scopes, e.Scopes...)
	s.keys = append(s.keys, e.Keys...)
	s.patterns = append(s.patterns, e.Patterns...)
}

// record encodes an event and reads the records back.
func record(t interface {
	Helper()
	Fatalf(string, ...any)
}, e Event) (all []*Event, what said) {
	t.Helper()
	first := []byte("there before")
	records, err := AppendRecords([][]byte{first}, e)
	if err != nil || len(records) == 0 || &records[0][0] != &first[0] {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for i, data := range records[1:] {
		back, err := DecodeEvent(data)
		if err != nil {
			t.Fatalf("%v: %.200s", err, data)
		}
		if back.Version != Version || back.Source != e.Source || back.GTID != e.GTID || back.Schema != e.Schema || !back.CommittedAt.Equal(e.CommittedAt) || back.Seq != e.Seq+i {
			t.Fatalf("record %d is of %+v, the event is %+v", i, back, e)
		}
		all = append(all, back)
		what.add(back)
	}
	return all, what
}

// Whatever an event says is in its records, once, and in order.
func TestRecordsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genEvent().Filter(func(e *Event) bool { return e.Kind != KindProgress }).Draw(t, "event")
		e.Version = rapid.IntRange(0, 3).Draw(t, "version")
		var want said
		want.add(e)
		all, got := record(t, *e)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("the records say\n%+v, the event\n%+v", got, want)
		}
		if len(all) != 1 || all[0].Kind != e.Kind || all[0].Reason != e.Reason {
			t.Fatalf("%d records, first %+v", len(all), all[0])
		}
	})
}

func TestRecordsAreCut(t *testing.T) {
	rows := TableRows{DB: "shop", Table: "item", Columns: []string{"id"}}
	e := Event{Kind: KindKeys, Seq: 7, Reason: "a list"}
	changes := Event{Kind: KindChanges, Seq: 3, Tables: []TableRows{rows, {DB: "shop", Table: "cart", Columns: []string{"id"}}}}
	invalidate := Event{Kind: KindInvalidate}
	for i := range 20_000 {
		e.Keys = append(e.Keys, fmt.Sprintf("item:%d", i))
		e.Patterns = append(e.Patterns, fmt.Sprintf("old:%d:*", i))
		t := &changes.Tables[i%2]
		t.Rows = append(t.Rows, Row{After: []keys.Value{number(fmt.Sprint(i))}})
		if i < 2*maxScopes+1 {
			invalidate.Scopes = append(invalidate.Scopes, TableScope("shop", fmt.Sprintf("t%d", i)))
		}
	}
	for _, e := range []Event{e, changes, invalidate} {
		var want said
		want.add(&e)
		all, got := record(t, e)
		if !reflect.DeepEqual(got, want) || len(all) < 3 {
			t.Errorf("%s: %d records do not say what the event does", e.Kind, len(all))
		}
		records, _ := AppendRecords(nil, e)
		for i, data := range records {
			if len(data) > 2*recordSize || e.Kind != KindInvalidate && i < len(records)-1 && len(data) < recordSize {
				t.Errorf("%s: record %d of %d has %d bytes", e.Kind, i, len(records), len(data))
			}
		}
	}
}

// Rows that cannot be written are over-invalidated, their neighbours are not, and
// each table is once.
func TestRecordsOfBadRows(t *testing.T) {
	after := func(v keys.Value) Row { return Row{After: []keys.Value{v}} }
	column := []string{"id"}
	_, got := record(t, Event{Kind: KindChanges, Tables: []TableRows{
		{DB: "shop", Table: "item", Columns: column, Rows: []Row{after(text("\xff")), after(number("1")), after(text("\xfe"))}},
		{DB: "shop", Table: "big", Columns: column, Rows: []Row{after(text(strings.Repeat("x", maxRecord)))}},
		{DB: "shop", Table: "item", Columns: column, Rows: []Row{after(number("2")), after(number("0x1"))}},
		{DB: "shop", Table: "none", Columns: column},
		{DB: "sh\xffop", Table: "item", Columns: column, Rows: []Row{after(number("3"))}},
	}})
	want := said{
		rows:   map[string][]Row{`["shop" "item" "id"]`: {after(number("1")), after(number("2"))}},
		scopes: []Scope{TableScope("shop", "item"), TableScope("shop", "big"), {DB: "*", Table: "item"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the records say\n%+v, want\n%+v", got, want)
	}
}

// An event of any kind may hold any part: none is left out.
func TestRecordsOfAllParts(t *testing.T) {
	e := *golden["changes"]
	e.Scopes, e.Reason, e.Keys, e.Patterns = []Scope{Everything}, "why", []string{"a"}, []string{"b:*"}
	var want said
	want.add(&e)
	all, got := record(t, e)
	if len(all) != 3 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d records say\n%+v, want\n%+v", len(all), got, want)
	}
	if records, err := AppendRecords(nil, Event{Kind: KindChanges}); len(records) != 0 || err != nil {
		t.Errorf("an event without changes makes %q, %v", records, err)
	}
}

// What no invalidator would take is not written.
func TestRecordsRefused(t *testing.T) {
	rows := func(table TableRows) Event {
		table.DB, table.Columns = "shop", []string{"id"}
		return Event{Kind: KindChanges, Tables: []TableRows{table}}
	}
	one := []keys.Value{number("1")}
	for name, e := range map[string]Event{
		"no kind":          {},
		"progress":         *golden["progress"],
		"no scopes":        {Kind: KindInvalidate},
		"no table name":    rows(TableRows{Rows: []Row{{After: one}}}),
		"no image":         rows(TableRows{Table: "t", Rows: []Row{{After: one}, {}}}),
		"too many values":  rows(TableRows{Table: "t", Rows: []Row{{After: append(slices.Clone(one), one...)}}}),
		"an empty key":     {Kind: KindKeys, Keys: []string{"a", ""}},
		"a key of bytes":   {Kind: KindKeys, Keys: []string{"a", "\xff"}},
		"a huge key":       {Kind: KindKeys, Keys: []string{strings.Repeat("a", maxRecord+1)}},
		"a bad pattern":    {Kind: KindKeys, Keys: []string{"a"}, Patterns: []string{"*"}},
		"pattern of bytes": {Kind: KindKeys, Patterns: []string{"a\xff*"}},
		"keys in changes":  {Kind: KindChanges, Keys: []string{""}},
	} {
		dst := [][]byte{[]byte("there before")}
		records, err := AppendRecords(dst, e)
		if !errors.Is(err, ErrFatal) || len(records) != 1 {
			t.Errorf("%s: %d records, %v", name, len(records), err)
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, ok := range []string{"item:*", "*:old", "?x", "a", `\*`, `*\`, "[a-z]x", `[\]]x*`, "x[^a]", "[a-]]x", "é*"} {
		if reason := checkPattern(ok); reason != "" {
			t.Errorf("%q %s", ok, reason)
		}
	}
	for _, bad := range []string{"", "*", "**", "?", "*?*", "[a-z]", "[^a]*", "[]", "a[", "item:[0-9", `a[\]`, "a[b-]"} {
		if checkPattern(bad) == "" {
			t.Errorf("%q is taken", bad)
		}
	}
}

// A reader refuses, and so over-invalidates, what no writer here writes.
func TestDecodeRefusesKeys(t *testing.T) {
	for _, body := range []string{
		`"kind":"keys"`,
		`"kind":"keys","keys":[]`,
		`"kind":"keys","keys":[""]`,
		`"kind":"keys","keys":[1]`,
		`"kind":"keys","keys":"a"`,
		`"kind":"keys","keys":["a"],"patterns":[""]`,
		`"kind":"keys","keys":["a"],"patterns":["a*","*"]`,
		`"kind":"invalidate","scopes":[{}],"patterns":["?"]`,
		`"kind":"progress","partitions":1,"keys":["a"]`,
		`"kind":"progress","partitions":1,"patterns":["a"]`,
	} {
		if e, err := DecodeEvent([]byte(`{"v":1,` + body + `}`)); err == nil {
			t.Errorf("%s is read as %+v", body, e)
		}
	}
}

func FuzzRecordsOfKeys(f *testing.F) {
	f.Add("item:1", "item:*", "why", 3)
	f.Add("\x00", `\[`, "", 1)
	f.Fuzz(func(t *testing.T, key, pattern, reason string, n int) {
		e := Event{Kind: KindKeys, Keys: slices.Repeat([]string{key}, min(max(n, 0), 10_000)), Patterns: []string{pattern}, Reason: reason}
		records, err := AppendRecords(nil, e)
		if err != nil {
			return
		}
		var got said
		for _, data := range records {
			back, err := DecodeEvent(data)
			if err != nil {
				t.Fatalf("%v: %q", err, data)
			}
			got.add(back)
		}
		if !slices.Equal(got.keys, e.Keys) || !slices.Equal(got.patterns, e.Patterns) {
			t.Errorf("the records say %+v, the event %+v", got, e)
		}
	})
}
