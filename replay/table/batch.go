package table

import (
	"slices"
	"strconv"
	"strings"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// maxBytes ends a chunk early: values may be large.
const maxBytes = 8 << 20

// rowReader knows what to read of each row of a table, and makes values of it.
type rowReader struct {
	columns []string // of the events
	exprs   []string // of the SELECT
	values  []valueSpec
	key     *key
	keyAt   []int  // where the key columns are among exprs
	meets   int    // where the condition is, -1 if each row meets it
	found   string // the condition, where an index finds its rows
	by      string // the index that is read
	images  []imageRule
	schema  *keys.Schema
}

// valueSpec says how a value of an event is made.
type valueSpec struct {
	name     string
	at       int // among exprs
	survived int // among exprs; -1 if its text always is what it was
	form     form
	kind     keys.Kind
}

// imageRule is a rule whose condition asks how a row was changed. Nothing has
// changed the rows of a walk, so their keys are made here, whatever it says.
type imageRule struct {
	rule *keys.Rule
	at   []int // the key columns among the values
}

func newRowReader(t *table, need needs, schema *keys.Schema) *rowReader {
	r := &rowReader{columns: need.columns, key: t.key, meets: -1, by: t.key.name, schema: schema}
	for _, name := range need.columns {
		c := t.column(name)
		expr, survived := c.valueExpr()
		v := valueSpec{name: name, at: r.expr(expr), survived: -1, form: c.form(), kind: c.kind()}
		if survived != "" {
			v.survived = r.expr(survived)
		}
		r.values = append(r.values, v)
	}
	for _, c := range t.key.columns {
		r.keyAt = append(r.keyAt, r.expr(c.keyExpr()))
	}
	for _, rule := range need.rules {
		if rule.ComparesImages() {
			one := imageRule{rule: rule}
			for _, c := range rule.KeyColumns() {
				one.at = append(one.at, slices.IndexFunc(need.columns, func(have string) bool { return strings.EqualFold(have, c) }))
			}
			r.images = append(r.images, one)
		}
	}
	return r
}

// only has a condition for the rows: by an index that finds them, or else read
// with each row, as a column.
func (r *rowReader) only(where, by string) {
	r.found, r.by = "", r.key.name
	switch {
	case by != "":
		r.found, r.by = where, by
	case where != "":
		r.meets = r.expr("((" + where + ") IS TRUE)")
	}
}

// expr returns where an expression is read, which is read once.
func (r *rowReader) expr(sql string) int {
	if i := slices.Index(r.exprs, sql); i >= 0 {
		return i
	}
	r.exprs = append(r.exprs, sql)
	return len(r.exprs) - 1
}

// batch collects the rows of one chunk. Their text lies in one buffer, and becomes
// one string at the end: a row needs no memory of its own.
type batch struct {
	r      *rowReader
	buf    []byte
	marks  []mark
	bytes  int // read, including what is not kept
	looked int
	last   [][]byte // the key of the last row that was looked at
	full   bool
	doubt  string

	unbounded bool // the rows were asked for one by one: none may wait
}

// mark is a value in the buffer.
type mark struct {
	end  int
	kind keys.Kind
}

func (r *rowReader) begin(rows int) *batch {
	return &batch{r: r, marks: make([]mark, 0, rows*len(r.values)), last: make([][]byte, len(r.keyAt))}
}

// add takes a row of the result in.
func (b *batch) add(row [][]byte) error {
	if b.full {
		return nil // the next chunk has it
	}
	for _, v := range row {
		b.bytes += len(v)
	}
	b.full = b.bytes > maxBytes && !b.unbounded
	b.looked++
	for i, at := range b.r.keyAt {
		b.last[i] = append(b.last[i][:0], row[at]...)
	}
	if m := b.r.meets; m >= 0 && string(row[m]) != "1" {
		return nil
	}
	size, count := len(b.buf), len(b.marks)
	for i := range b.r.values {
		v := &b.r.values[i]
		value := row[v.at]
		if value == nil {
			b.marks = append(b.marks, mark{len(b.buf), keys.Null})
			continue
		}
		ok := true
		b.buf, ok = appendForm(b.buf, value, v.form)
		if !ok || v.survived >= 0 && string(row[v.survived]) == "0" && slices.Contains(value, '?') {
			b.doubt = "a value of column " + strconv.Quote(v.name) + " is not valid text in its character set"
			b.buf, b.marks = b.buf[:size], b.marks[:count]
			return nil
		}
		b.marks = append(b.marks, mark{len(b.buf), v.kind})
	}
	if len(b.r.values) == 0 {
		b.marks = append(b.marks, mark{}) // rows count, nothing of them is read
	}
	return nil
}

// events makes the events of the rows. Where values are not certain, all keys of
// the table are deleted, unless they were already.
func (b *batch) events(head pipeline.Event, t *table, swept *bool) (events []pipeline.Event) {
	add := func(kind, reason string) *pipeline.Event {
		e := head
		e.Kind, e.Seq, e.Reason = kind, len(events), reason
		events = append(events, e)
		return &events[len(events)-1]
	}
	rows, made, doubt := b.end()
	if doubt != "" && !*swept {
		*swept = true
		add(pipeline.KindInvalidate, doubt).Scopes = []pipeline.Scope{pipeline.TableScope(t.db, t.name)}
	}
	if len(rows) > 0 {
		add(pipeline.KindChanges, "").Tables = []pipeline.TableRows{{DB: t.db, Table: t.name, Columns: b.r.columns, Rows: rows}}
	}
	if len(made) > 0 {
		add(pipeline.KindKeys, "rows of "+t.db+"."+t.name+", whatever their rule's condition says of a change").Keys = made
	}
	return events
}

// end returns the rows, the keys of rules whose conditions ask for a change, and
// why there are rows whose keys are not certain.
func (b *batch) end() (rows []pipeline.Row, made []string, doubt string) {
	width := max(len(b.r.values), 1)
	all := string(b.buf)
	values := make([]keys.Value, len(b.marks))
	rows = make([]pipeline.Row, len(b.marks)/width)
	from := 0
	for i, m := range b.marks {
		values[i] = keys.Value{Kind: m.kind, Text: all[from:m.end]}
		from = m.end
	}
	for i := range rows {
		rows[i].After = values[i*width : (i+1)*width : (i+1)*width][:len(b.r.values)]
	}
	for i := range b.r.images {
		made = b.imageKeys(made, &b.r.images[i], rows)
	}
	return rows, made, b.doubt
}

func (b *batch) imageKeys(made []string, one *imageRule, rows []pipeline.Row) []string {
	args := make([]any, len(one.at))
rows:
	for _, row := range rows {
		null := false
		for i, at := range one.at {
			v := row.After[at]
			if args[i] = v.Text; v.Kind == keys.Null {
				args[i], null = nil, true
			}
		}
		key, err := b.r.schema.Key(one.rule.Name(), args...)
		switch {
		case err == nil:
			made = append(made, key)
		case !null:
			b.doubt = err.Error()
		default:
			continue rows // no key for NULL
		}
	}
	return made
}
