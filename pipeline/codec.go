package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/doubletap-cdc/doubletap/keys"
)

// The form of an event is described in docs/events.md. It is written by hand
// because values are kept as exact literals (a DECIMAL keeps its scale), and
// because a record is built row by row up to a size.

// errNotText says that a value is not valid UTF-8 and so has no form in JSON.
var errNotText = errors.New("a value is not valid UTF-8")

// eventWriter builds one event of row changes in a buffer.
type eventWriter struct {
	buf     []byte
	db      string // of the table that is open
	table   string
	opened  bool // a table is open
	written int  // rows
}

func (w *eventWriter) begin(e *Event) {
	w.buf = appendHeader(make([]byte, 0, 512), e)
	w.buf = append(w.buf, `,"tables":[`...)
}

// add appends a row. On an error nothing was written.
func (w *eventWriter) add(t *TableRows, r Row) error {
	mark, opened, db, table := len(w.buf), w.opened, w.db, w.table
	if !w.opened || w.db != t.DB || w.table != t.Table {
		w.openTable(t)
	} else {
		w.buf = append(w.buf, ',')
	}
	w.buf = append(w.buf, '{')
	ok := true
	if r.Before != nil {
		w.buf = append(w.buf, `"before":`...)
		w.buf, ok = appendImage(w.buf, r.Before)
	}
	if r.After != nil && ok {
		if r.Before != nil {
			w.buf = append(w.buf, ',')
		}
		w.buf = append(w.buf, `"after":`...)
		w.buf, ok = appendImage(w.buf, r.After)
	}
	if !ok {
		w.buf, w.opened, w.db, w.table = w.buf[:mark], opened, db, table
		return errNotText
	}
	w.buf = append(w.buf, '}')
	w.written++
	return nil
}

func (w *eventWriter) openTable(t *TableRows) {
	if w.opened {
		w.buf = append(w.buf, `]},`...)
	}
	w.opened, w.db, w.table = true, t.DB, t.Table
	w.buf = append(w.buf, `{"db":`...)
	w.buf = appendString(w.buf, t.DB)
	w.buf = append(w.buf, `,"table":`...)
	w.buf = appendString(w.buf, t.Table)
	w.buf = append(w.buf, `,"columns":[`...)
	for i, c := range t.Columns {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		w.buf = appendString(w.buf, c)
	}
	w.buf = append(w.buf, `],"rows":[`...)
}

// end closes the event and returns its bytes, which the writer gives up.
func (w *eventWriter) end() []byte {
	b := append(w.buf, `]}]}`...)
	*w = eventWriter{}
	return b
}

// encodeInvalidate returns the bytes of a whole-table invalidation.
func encodeInvalidate(e *Event) []byte {
	e.Kind = KindInvalidate
	b := appendHeader(nil, e)
	b = append(b, `,"scopes":`...)
	scopes, err := json.Marshal(e.Scopes)
	if err != nil { // strings only: cannot happen
		panic(err)
	}
	b = append(b, scopes...)
	b = append(b, `,"reason":`...)
	b = appendString(b, e.Reason)
	return append(b, '}')
}

func appendHeader(b []byte, e *Event) []byte {
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, Version, 10)
	b = append(b, `,"kind":`...)
	b = appendString(b, e.Kind)
	b = append(b, `,"source":`...)
	b = appendString(b, e.Source)
	b = append(b, `,"gtid":`...)
	b = appendString(b, e.GTID)
	b = append(b, `,"seq":`...)
	b = strconv.AppendInt(b, int64(e.Seq), 10)
	if !e.CommittedAt.IsZero() {
		b = append(b, `,"committed_us":`...)
		b = strconv.AppendInt(b, e.CommittedAt.UnixMicro(), 10)
	}
	b = append(b, `,"schema":`...)
	return appendString(b, e.Schema)
}

// appendImage reports false where a value has no form in JSON.
func appendImage(b []byte, vs []keys.Value) ([]byte, bool) {
	b = append(b, '[')
	for i, v := range vs {
		if i > 0 {
			b = append(b, ',')
		}
		switch v.Kind {
		case keys.Null:
			b = append(b, `null`...)
		case keys.Number:
			b = append(b, v.Text...)
		case keys.Text:
			if !utf8.ValidString(v.Text) {
				return b, false
			}
			b = appendString(b, v.Text)
		default:
			b = append(b, `{}`...) // not in the row image
		}
	}
	return append(b, ']'), true
}

func appendString(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return appendQuoted(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendQuoted(b []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil { // a string: cannot happen
		panic(err)
	}
	return append(b, q...)
}

type wireEvent struct {
	V           int         `json:"v"`
	Kind        string      `json:"kind"`
	Source      string      `json:"source"`
	GTID        string      `json:"gtid"`
	Seq         int         `json:"seq"`
	CommittedUS int64       `json:"committed_us"`
	Schema      string      `json:"schema"`
	Tables      []wireTable `json:"tables"`
	Scopes      []Scope     `json:"scopes"`
	Reason      string      `json:"reason"`
}

type wireTable struct {
	DB      string    `json:"db"`
	Table   string    `json:"table"`
	Columns []string  `json:"columns"`
	Rows    []wireRow `json:"rows"`
}

type wireRow struct {
	Before wireImage `json:"before"`
	After  wireImage `json:"after"`
}

type wireImage []keys.Value

// DecodeEvent parses a record of the log. An event of another version or kind
// is an error: what cannot be understood must be over-invalidated (I8).
func DecodeEvent(data []byte) (*Event, error) {
	var w wireEvent
	if err := json.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("decode event: %w", err)
	}
	switch {
	case w.V != Version:
		return nil, fmt.Errorf("decode event: version %d, want %d: the record was written by another release or is not an event", w.V, Version)
	case w.Kind != KindChanges && w.Kind != KindInvalidate:
		return nil, fmt.Errorf("decode event: kind %q is not known", w.Kind)
	}
	e := &Event{
		Version: w.V, Kind: w.Kind, Source: w.Source, GTID: w.GTID, Seq: w.Seq,
		Schema: w.Schema, Scopes: w.Scopes, Reason: w.Reason,
	}
	if w.CommittedUS != 0 {
		e.CommittedAt = time.UnixMicro(w.CommittedUS)
	}
	for _, t := range w.Tables {
		rows := make([]Row, len(t.Rows))
		for i, r := range t.Rows {
			rows[i] = Row{Before: r.Before, After: r.After}
		}
		e.Tables = append(e.Tables, TableRows{DB: t.DB, Table: t.Table, Columns: t.Columns, Rows: rows})
	}
	return e, checkEvent(e)
}

// checkEvent refuses what is valid JSON and yet no event.
func checkEvent(e *Event) error {
	if e.Kind == KindInvalidate && len(e.Scopes) == 0 {
		return errors.New("decode event: an invalidation without scopes")
	}
	if e.Kind == KindChanges && len(e.Tables) == 0 {
		return errors.New("decode event: no row changes in it")
	}
	for _, t := range e.Tables {
		for _, r := range t.Rows {
			if r.Before == nil && r.After == nil {
				return fmt.Errorf("decode event: a row of %s.%s has no image", t.DB, t.Table)
			}
			if len(r.Before) > len(t.Columns) || len(r.After) > len(t.Columns) {
				return fmt.Errorf("decode event: a row of %s.%s has more values than columns", t.DB, t.Table)
			}
		}
	}
	return nil
}

// UnmarshalJSON keeps numbers as the literals that they were written as.
func (im *wireImage) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return fmt.Errorf("a row image is not a list")
	}
	*im = wireImage{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		v, err := wireValue(d, t)
		if err != nil {
			return err
		}
		*im = append(*im, v)
	}
	return nil
}

func wireValue(d *json.Decoder, t json.Token) (keys.Value, error) {
	switch t := t.(type) {
	case nil:
		return keys.Value{Kind: keys.Null}, nil
	case json.Number:
		return keys.Value{Kind: keys.Number, Text: t.String()}, nil
	case string:
		return keys.Value{Kind: keys.Text, Text: t}, nil
	case json.Delim:
		if t == '{' {
			if end, err := d.Token(); err == nil && end == json.Delim('}') {
				return keys.Value{Kind: keys.Absent}, nil
			}
		}
	}
	return keys.Value{}, fmt.Errorf("a row image holds %v, which is no value", t)
}
