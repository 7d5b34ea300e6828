package pipeline

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/doubletap-cdc/doubletap/keys"
)

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
