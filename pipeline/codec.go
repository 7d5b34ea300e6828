package pipeline

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/doubletap-cdc/doubletap/keys"
)

// The form of an event is described in docs/events.md. It is written by hand
// because values are kept as exact literals (a DECIMAL keeps its scale), and
// because a record is built row by row up to a size.

// errNotText and errNotNumber say why a value has no form in JSON.
var (
	errNotText   = errors.New("a value is not valid UTF-8")
	errNotNumber = errors.New("a number is not written as one")
)

// eventWriter builds one event of row changes in a buffer.
type eventWriter struct {
	buf     []byte
	db      string // of the table that is open
	table   string
	columns []string
	opened  bool // a table is open
	written int  // rows
}

func (w *eventWriter) begin(e *Event) {
	w.buf = appendHeader(make([]byte, 0, 512), e)
	w.buf = append(w.buf, `,"tables":[`...)
}

func (w *eventWriter) begun() bool { return w.buf != nil }

// add appends a row. On an error nothing was written.
func (w *eventWriter) add(t *TableRows, r Row) error {
	before := *w
	if !w.opened || w.db != t.DB || w.table != t.Table || !slices.Equal(w.columns, t.Columns) {
		if !validNames(t) {
			return errNotText
		}
		w.openTable(t)
	} else {
		w.buf = append(w.buf, ',')
	}
	w.buf = append(w.buf, '{')
	var err error
	if r.Before != nil {
		w.buf = append(w.buf, `"before":`...)
		w.buf, err = appendImage(w.buf, r.Before)
	}
	if r.After != nil && err == nil {
		if r.Before != nil {
			w.buf = append(w.buf, ',')
		}
		w.buf = append(w.buf, `"after":`...)
		w.buf, err = appendImage(w.buf, r.After)
	}
	if err != nil {
		*w = before
		return err
	}
	w.buf = append(w.buf, '}')
	w.written++
	return nil
}

func (w *eventWriter) openTable(t *TableRows) {
	if w.opened {
		w.buf = append(w.buf, `]},`...)
	}
	w.opened, w.db, w.table, w.columns = true, t.DB, t.Table, t.Columns
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

// validNames says that the names of t can be written as they are. MySQL allows
// no others; written with U+FFFD they would be the names of another table.
func validNames(t *TableRows) bool {
	ok := utf8.ValidString(t.DB) && utf8.ValidString(t.Table)
	for _, c := range t.Columns {
		ok = ok && utf8.ValidString(c)
	}
	return ok
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

// encodeProgress returns the bytes of a progress record. Its GTID is the set of
// the transactions whose events are all before it.
func encodeProgress(e *Event) []byte {
	e.Kind = KindProgress
	b := appendHeader(nil, e)
	b = append(b, `,"partition":`...)
	b = strconv.AppendInt(b, int64(e.Partition), 10)
	b = append(b, `,"partitions":`...)
	b = strconv.AppendInt(b, int64(e.Partitions), 10)
	return append(b, '}')
}

// encodeKeys returns the bytes of an event that names keys.
func encodeKeys(e *Event) []byte {
	e.Kind = KindKeys
	b := appendHeader(nil, e)
	for _, list := range []struct {
		field string
		texts []string
	}{{"keys", e.Keys}, {"patterns", e.Patterns}} {
		if len(list.texts) == 0 {
			continue
		}
		b = append(b, `,"`...)
		b = append(b, list.field...)
		b = append(b, `":[`...)
		for i, t := range list.texts {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, t)
		}
		b = append(b, ']')
	}
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
	b = appendString(b, e.Schema)
	if e.KeysBy != "" {
		b = append(b, `,"keys_by":`...)
		b = appendString(b, e.KeysBy)
	}
	return b
}

// appendImage fails where a value has no form in JSON.
func appendImage(b []byte, vs []keys.Value) ([]byte, error) {
	b = append(b, '[')
	for i, v := range vs {
		if i > 0 {
			b = append(b, ',')
		}
		switch v.Kind {
		case keys.Null:
			b = append(b, `null`...)
		case keys.Number:
			if v.Text == "" || numberEnd(v.Text, 0) != len(v.Text) {
				return b, errNotNumber
			}
			b = append(b, v.Text...)
		case keys.Text:
			if !utf8.ValidString(v.Text) {
				return b, errNotText
			}
			b = appendString(b, v.Text)
		default:
			b = append(b, `{}`...) // not in the row image
		}
	}
	return append(b, ']'), nil
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
