package bus

import "github.com/doubletap-cdc/doubletap/pipeline"

// unfit stand for cursors that belong to another log, or to one that lost its tail.
var unfit = pipeline.Cursors{First: -1, Second: -1}

// behind returns how many records of a partition the passes have still to handle,
// by the cursors that a consumer has stored; the zero ones where it has stored none.
// Where records are gone that it has not handled, or nobody knows, it owes an
// invalidation of everything, and where a reader is out, second deletes: that is one
// record at least, however few there are. Cursors and marks were stored in one step,
// so nothing is missed between a reader's return and the second pass's.
func behind(c pipeline.Cursors, start, end int64) (first, second int64) {
	left := func(cursor int64) int64 {
		if cursor < start {
			return max(end-start, 1)
		}
		return end - cursor
	}
	first, second = left(c.First), left(c.Second)
	if pipeline.Owes(c.Marks) {
		second = max(second, 1)
	}
	return first, second
}
