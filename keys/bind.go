package keys

import (
	"strconv"

	"github.com/expr-lang/expr/vm"
)

// Table is what a schema says about one table, or about many tables that the
// same rules match. It does not change and is safe for concurrent use; callers
// must not change the slices it returns.
type Table struct {
	rules   []*Rule
	columns []string
	route   []int
}

func newTable(rules []*Rule) *Table {
	t := &Table{rules: rules}
	for _, r := range rules {
		for _, c := range r.columns {
			t.columns = addColumn(t.columns, c)
		}
	}
	for _, r := range rules {
		if len(r.template.cols) > 0 {
			t.route = indexes(t.columns, r.template.cols)
			break
		}
	}
	return t
}

// indexes returns where each of columns is in list, -1 where it is not.
func indexes(list, columns []string) []int {
	at := make([]int, len(columns))
	for i, c := range columns {
		at[i] = findColumn(list, c)
	}
	return at
}

// Rules returns the rules that apply to the table, in file order.
func (t *Table) Rules() []*Rule { return t.rules }

// Columns returns the columns that the table's rules need (key columns,
// columns:, when:), without duplicates, in a stable order. Empty if the rules
// need none (keys without placeholders).
func (t *Table) Columns() []string { return t.columns }

// Route returns the indexes in [Table.Columns] of the columns whose values
// choose the partition of an event: the key columns of the first rule that has
// any; empty if none has.
func (t *Table) Route() []int { return t.route }

// Bind ties the table's rules to the columns as an event lists them. The
// event's schema may be older or newer: a column that the event does not list
// is Absent in every row. Column names compare without regard to case, as in
// MySQL.
func (t *Table) Bind(columns []string) *Binding {
	b := &Binding{rules: make([]boundRule, len(t.rules))}
	most := 0
	for i, r := range t.rules {
		br := boundRule{rule: r, key: indexes(columns, r.template.cols)}
		if len(r.watched) > 0 {
			br.watched = append(indexes(columns, r.watched), br.key...)
		}
		if r.when != nil {
			br.refs = make([]int, len(r.when.refs))
			for k, ref := range r.when.refs {
				br.refs[k] = findColumn(columns, ref.column)
			}
			br.env = make(map[string]any, len(br.refs)+1)
		}
		b.rules[i] = br
		most = max(most, len(br.key))
	}
	b.values = make([]Value, most)
	return b
}

// Binding makes keys from rows with one list of columns. It keeps scratch
// memory: not safe for concurrent use; bind once per goroutine.
type Binding struct {
	rules  []boundRule
	values []Value
	buf    []byte
	vm     vm.VM
}

// boundRule holds a rule's columns as indexes into a row, -1 if missing.
type boundRule struct {
	rule    *Rule
	key     []int
	watched []int // columns: and the key columns, nil if every change counts
	refs    []int // columns of when:
	env     map[string]any
}

// row is one row change on its way through the rules.
type row struct {
	before, after []Value
	op            string
}

// update reports whether the row was there before and is there after.
func (w *row) update() bool { return w.op == "update" }

// Append adds to r the keys that a row change makes stale: the keys of before
// and of after (I5). A nil before is an insert, a nil after a delete. The
// values are in the order of the columns given to [Table.Bind]; a shorter
// image has its tail Absent. Keys are in rule order, the before image's first,
// without duplicates within the row. Keys are new strings: they do not keep
// the values' memory.
func (b *Binding) Append(r *Result, before, after []Value) {
	w := row{before: before, after: after, op: "update"}
	switch {
	case before == nil && after == nil:
		// No image at all: something changed, and nothing is known of it.
		w.before, w.after = []Value{}, []Value{}
	case before == nil:
		w.op = "insert"
	case after == nil:
		w.op = "delete"
	}
	first := len(r.Keys)
	for i := range b.rules {
		b.appendRule(r, first, &b.rules[i], &w)
	}
}

func (b *Binding) appendRule(r *Result, first int, br *boundRule, w *row) {
	useBefore, useAfter := w.before != nil, w.after != nil
	touched := !w.update() || br.watched == nil || changed(w, br.watched)
	if br.rule.when != nil {
		if !touched && !changed(w, br.refs) {
			return // the condition cannot have changed either
		}
		if useBefore {
			useBefore = b.holds(r, br, w, w.before)
		}
		if useAfter {
			useAfter = b.holds(r, br, w, w.after)
		}
		// A row that begins or ceases to meet the condition comes or goes, as
		// far as this rule is concerned.
		touched = touched || useBefore != useAfter
	}
	if !touched {
		return
	}
	doubt := ""
	if useBefore {
		doubt = b.appendKey(r, first, br, w.before)
	}
	if useAfter {
		if d := b.appendKey(r, first, br, w.after); doubt == "" {
			doubt = d
		}
	}
	if doubt != "" {
		r.Doubts = append(r.Doubts, Doubt{br.rule, doubt})
	}
}

// changed reports whether one of the columns may differ between the images of
// an update.
func changed(w *row, columns []int) bool {
	for _, i := range columns {
		x, y := at(w.before, i), at(w.after, i)
		if x.Kind == Absent || y.Kind == Absent || x != y {
			return true
		}
	}
	return false
}

// at returns the value of a column, Absent if the image has none.
func at(image []Value, i int) Value {
	if i < 0 || i >= len(image) {
		return Value{}
	}
	return image[i]
}

// appendKey adds the key of one image; its result is a doubt or empty.
func (b *Binding) appendKey(r *Result, first int, br *boundRule, image []Value) string {
	for k, i := range br.key {
		b.values[k] = at(image, i)
	}
	var bad buildError
	b.buf, bad = br.rule.append(b.buf[:0], b.values)
	switch {
	case bad.absent:
		return "column " + strconv.Quote(br.rule.template.cols[bad.col]) + " is not in the row image"
	case bad.null:
		return ""
	case bad.err != nil:
		return "column " + strconv.Quote(br.rule.template.cols[bad.col]) + ": " + bad.err.Error()
	}
	for i, k := range r.Keys[first:] {
		if k == string(b.buf) && r.Rules[first+i].filling == br.rule.filling {
			return ""
		}
	}
	r.Keys, r.Rules = append(r.Keys, string(b.buf)), append(r.Rules, br.rule)
	return ""
}

// holds evaluates the rule's condition for one image. What cannot be evaluated
// counts as true.
func (b *Binding) holds(r *Result, br *boundRule, w *row, image []Value) bool {
	br.env[opVariable] = w.op
	for k, ref := range br.rule.when.refs {
		from := image
		switch ref.image {
		case beforeImage:
			from = w.before
		case afterImage:
			from = w.after
		case thisImage:
		}
		if from == nil { // before of an insert, after of a delete: all NULL
			br.env[ref.slot] = nil
			continue
		}
		v := at(from, br.refs[k])
		if v.Kind == Absent {
			r.WhenErrors++
			return true
		}
		br.env[ref.slot] = v.variable()
	}
	out, err := b.vm.Run(br.rule.when.program, br.env)
	if is, ok := out.(bool); ok && err == nil {
		return is
	}
	r.WhenErrors++
	return true
}

// Result collects the keys of one or more rows. The zero Result is ready.
type Result struct {
	Keys       []string // keys to delete; de-duplicated within a row and fill only
	Rules      []*Rule  // the rule that makes each of them; where several do, the first of those that are filled alike
	Doubts     []Doubt  // at most one per rule and row
	WhenErrors int      // conditions that could not be evaluated and counted as true
}

// Reset empties r and keeps its memory.
func (r *Result) Reset() {
	clear(r.Keys)
	clear(r.Doubts)
	r.Keys, r.Rules, r.Doubts, r.WhenErrors = r.Keys[:0], r.Rules[:0], r.Doubts[:0], 0
}

// Doubt says that a key of a rule could not be built with certainty: the
// caller must delete everything that Rule.Pattern() matches.
type Doubt struct {
	Rule   *Rule
	Reason string // for people, such as `column "sku" is not in the row image`; holds no values
}
