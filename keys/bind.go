package keys

// Table is what a schema says about one table. Immutable, safe for concurrent
// use.
type Table struct{}

// Rules returns the rules that apply to the table, in file order.
func (t *Table) Rules() []*Rule { return nil }

// Columns returns the columns that the table's rules need (key columns,
// columns:, when:), without duplicates, in a stable order. Empty if the rules
// need none (a key without placeholders).
func (t *Table) Columns() []string { return nil }

// Route returns the indexes in [Table.Columns] of the columns whose values
// choose the partition of an event: the first rule's key columns.
func (t *Table) Route() []int { return nil }

// Bind ties the table's rules to the columns as an event lists them. The
// event's schema may be older or newer: a column that the event does not list
// is Absent in every row. Column names compare without regard to case, as in
// MySQL.
func (t *Table) Bind(columns []string) *Binding { return nil }

// Binding makes keys from rows with one list of columns. It keeps scratch
// memory: not safe for concurrent use; bind once per goroutine.
type Binding struct{}

// Append adds to r the keys that a row change makes stale: the keys of before
// and of after (I5). A nil before is an insert, a nil after a delete. The
// values are in the order of the columns given to [Table.Bind]; a shorter
// image has its tail Absent. Keys are in rule order, the before image's first,
// without duplicates within the row.
func (b *Binding) Append(r *Result, before, after []Value) {}

// Result collects the keys of one or more rows. The zero Result is ready.
type Result struct {
	Keys       []string // keys to delete; de-duplicated within a row only
	Doubts     []Doubt  // at most one per rule and row
	WhenErrors int      // when: conditions that could not be evaluated and were taken as true
}

// Reset empties r and keeps its memory.
func (r *Result) Reset() {}

// Doubt says that a key of a rule could not be built with certainty: the
// caller must delete everything that Rule.Pattern() matches.
type Doubt struct {
	Rule   *Rule
	Reason string // for people, such as `column "sku" is not in the row image`; holds no values
}
