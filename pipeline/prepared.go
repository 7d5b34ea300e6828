package pipeline

import (
	"encoding/json"
	"slices"
)

// preparedTxn is an XA transaction that is prepared: where its rows are kept,
// and what to invalidate where they cannot be had.
type preparedTxn struct {
	XID     string  `json:"xid"`
	GTID    string  `json:"gtid"` // of its PREPARE; its records bear it
	From    int64   `json:"from,omitempty"`
	Next    int64   `json:"next,omitempty"`
	Records int     `json:"records,omitempty"`
	Schema  string  `json:"schema"` // the hash of the key schema that chose the rows
	Tables  []Scope `json:"tables,omitempty"`
	// Lost says that its rows were not kept: its tables are all that is known.
	Lost bool `json:"lost,omitempty"`

	txn *openTxn // while its records may not be durable; nil when read from a checkpoint
}

// maxTables bounds what is remembered of one transaction's tables.
const maxTables = 100

// touch notes what a batch changes.
func (p *preparedTxn) touch(b *Batch) {
	for i := range b.Tables {
		p.touchScope(TableScope(b.Tables[i].DB, b.Tables[i].Table))
	}
	for _, s := range b.Invalidate {
		p.touchScope(s)
	}
}

func (p *preparedTxn) touchScope(s Scope) {
	switch {
	case slices.Contains(p.Tables, s) || slices.Contains(p.Tables, Everything):
	case len(p.Tables) == maxTables:
		p.Tables = []Scope{Everything}
	default:
		p.Tables = append(p.Tables, s)
	}
}

// extend notes that records are in [from, next).
func (p *preparedTxn) extend(from, next int64) {
	if p.Next == 0 || from < p.From {
		p.From = from
	}
	p.Next = max(p.Next, next)
}

// maxPreparedTxns bounds the prepared transactions that are remembered. What is
// pushed out is not known when it commits, and then everything is invalidated.
const maxPreparedTxns = 10_000

// preparedSet is the transactions that are prepared at a place in the history,
// oldest first.
type preparedSet []*preparedTxn

// parsePrepared reads Checkpoint.Prepared. What cannot be read is not known: it
// is over-invalidated when it commits.
func parsePrepared(text string) preparedSet {
	var s preparedSet
	if json.Unmarshal([]byte(text), &s) != nil {
		return nil
	}
	return slices.DeleteFunc(s, func(p *preparedTxn) bool { return p == nil })
}

func (s preparedSet) find(xid string) *preparedTxn {
	for _, p := range s {
		if p.XID == xid {
			return p
		}
	}
	return nil
}

// remove forgets an xid.
func (s *preparedSet) remove(xid string) {
	*s = slices.DeleteFunc(*s, func(p *preparedTxn) bool { return p.XID == xid })
}

// add remembers p. Where its xid is known already, the earlier transaction's end
// was in a gap of the history: everything was invalidated then. It returns how
// many transactions are forgotten for p.
func (s *preparedSet) add(p *preparedTxn) (forgotten int) {
	s.remove(p.XID)
	*s = append(*s, p)
	if n := len(*s) - maxPreparedTxns; n > 0 {
		*s = slices.Delete(*s, 0, n)
		return n
	}
	return 0
}

// encode returns the set as text for a checkpoint. It forgets the oldest ones
// where the text would be too long, and says how many.
func (s *preparedSet) encode() (text string, forgotten int) {
	for len(*s) > 0 {
		b, err := json.Marshal(*s)
		if err != nil { // texts and numbers only: cannot happen
			panic(err)
		}
		if len(b) <= MaxPrepared {
			return string(b), forgotten
		}
		n := max(1, len(*s)/8)
		*s = slices.Delete(*s, 0, n)
		forgotten += n
	}
	return "", forgotten
}

// low returns the offset below which no transaction of the set has records;
// end, if none has any.
func (s preparedSet) low(end int64) int64 {
	for _, p := range s {
		if p.Records > 0 {
			end = min(end, p.From)
		}
	}
	return end
}
