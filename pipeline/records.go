package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// AppendRecords appends an event of kind changes, invalidate or keys to dst as
// records for the log, of about 64 KiB each where there is much to say; for
// replays. Each record is an event by itself: of this format's Version, whatever
// e says, and numbered from e.Seq. Rows that no record can hold become an
// invalidation of their table, as the tailer does it. An event whose lists are
// empty makes no record.
//
// An error says that no invalidator could make sense of the event, and so would
// delete all it knows: a row without an image, an invalidation of nothing, a key
// that is empty, that is not valid UTF-8 or larger than 512 KiB, a pattern about
// any key. It wraps ErrFatal, and dst is as it was.
func AppendRecords(dst [][]byte, e Event) ([][]byte, error) {
	records, err := encodeEvent(dst, e)
	if err != nil {
		return dst, fmt.Errorf("encode an event of kind %q: %w: %w", e.Kind, err, ErrFatal)
	}
	return records, nil
}

func encodeEvent(dst [][]byte, e Event) ([][]byte, error) {
	switch {
	case e.Kind != KindChanges && e.Kind != KindInvalidate && e.Kind != KindKeys:
		return nil, errors.New("only row changes, invalidations and keys can be written")
	case e.Kind == KindInvalidate && len(e.Scopes) == 0:
		return nil, errors.New("it names no table")
	}
	// Each part counts, whatever the kind: that is how an invalidator takes it, too.
	w := recordWriter{records: dst, e: e}
	if err := w.rows(); err != nil {
		return nil, err
	}
	w.scopes(e.Scopes, e.Reason)
	if err := w.keys(); err != nil {
		return nil, err
	}
	return w.records, nil
}

// recordWriter makes records of one event.
type recordWriter struct {
	records [][]byte
	e       Event // what all records have in common; Seq is the next one's
}

// event returns the next record's event, without content.
func (w *recordWriter) event(kind string) Event {
	e := Event{Kind: kind, Source: w.e.Source, GTID: w.e.GTID, Seq: w.e.Seq, CommittedAt: w.e.CommittedAt, Schema: w.e.Schema, KeysBy: w.e.KeysBy, Reason: w.e.Reason}
	w.e.Seq++
	return e
}

func (w *recordWriter) rows() error {
	var buf eventWriter
	swept := map[Scope]string{} // why
	var order []Scope
	for i := range w.e.Tables {
		t := &w.e.Tables[i]
		if len(t.Rows) == 0 {
			continue
		}
		if err := checkTable(t); err != nil {
			return err
		}
		for _, row := range t.Rows {
			if !buf.begun() {
				e := w.event(KindChanges)
				buf.begin(&e)
			}
			if reason := addRow(&buf, t, row); reason != "" {
				s := TableScope(t.DB, t.Table)
				if swept[s] == "" {
					swept[s], order = reason, append(order, s)
				}
				continue
			}
			if len(buf.buf) > recordSize {
				w.records = append(w.records, buf.end())
			}
		}
	}
	if buf.written > 0 {
		w.records = append(w.records, buf.end())
	}
	for _, s := range order {
		w.scopes([]Scope{s}, swept[s])
	}
	return nil
}

func (w *recordWriter) scopes(scopes []Scope, reason string) {
	for part := range slices.Chunk(scopes, maxScopes) {
		e := w.event(KindInvalidate)
		e.Scopes, e.Reason = part, reason
		w.records = append(w.records, encodeInvalidate(&e))
	}
}

// keys cuts both lists at recordSize, by what the texts take up unquoted. Quoting
// makes six bytes of one at the worst, and the topics take that too.
func (w *recordWriter) keys() error {
	if err := checkKeys(w.e.Keys, w.e.Patterns); err != nil {
		return err
	}
	var e Event
	size := 0
	add := func(what string, texts []string, to *[]string) error {
		for i, t := range texts {
			switch {
			case !utf8.ValidString(t):
				return fmt.Errorf("%s %d of %d: %w", what, i+1, len(texts), errNotText)
			case len(t) > maxRecord:
				return fmt.Errorf("%s %d of %d has %d bytes, more than %d", what, i+1, len(texts), len(t), maxRecord)
			case size == 0:
				e = w.event(KindKeys)
			}
			*to = append(*to, t)
			if size += len(t) + len(`"",`); size > recordSize {
				w.records = append(w.records, encodeKeys(&e))
				size = 0
			}
		}
		return nil
	}
	if err := add("key", w.e.Keys, &e.Keys); err != nil {
		return err
	}
	if err := add("pattern", w.e.Patterns, &e.Patterns); err != nil {
		return err
	}
	if size > 0 {
		w.records = append(w.records, encodeKeys(&e))
	}
	return nil
}
