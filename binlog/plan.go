package binlog

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// plan is how the rows of one table, as one TABLE_MAP event describes it, are
// read. It does not change once made.
type plan struct {
	table    *keys.Table // nil: no rule wants the table
	db, name string
	wanted   []string // keys.Table.Columns
	cols     []column
	json     []int  // the JSON columns, in order
	stale    string // why no row can be decoded: the whole table is stale
	body     []byte // the TABLE_MAP event that it was made from
}

func (p *plan) scope() pipeline.Scope { return pipeline.TableScope(p.db, p.name) }

// namesMissing tells what to do about a TABLE_MAP event without column names.
func namesMissing(mariadb bool) string {
	fix := "SET PERSIST binlog_row_metadata = 'FULL'"
	if mariadb {
		fix = "SET GLOBAL binlog_row_metadata = 'FULL' (and the same in my.cnf)"
	}
	return "the binlog does not name the columns; run: " + fix
}

// newPlan reads a TABLE_MAP body. What is uncertain ends in plan.stale, never
// in a guess.
func newPlan(schema *keys.Schema, body []byte, mariadb bool) (uint64, *plan, error) {
	id, db, name, _, err := tableName(body)
	if err != nil {
		return 0, nil, err
	}
	p := &plan{db: string(db), name: string(name), body: bytes.Clone(body)}
	if p.table = schema.Table(p.db, p.name); p.table == nil {
		return id, p, nil
	}
	p.wanted = p.table.Columns()
	t, err := parseTableMap(body, mariadb)
	if err != nil {
		p.stale = fmt.Sprintf("its table map event cannot be read: %v", err)
	} else {
		p.stale = p.layout(t, mariadb)
	}
	return id, p, nil
}

// layout fills in the columns. It returns why it cannot.
func (p *plan) layout(t *tableMap, mariadb bool) string {
	if len(p.wanted) == 0 {
		return "" // rows only count, nothing of them is read
	}
	if t.names == nil {
		return namesMissing(mariadb)
	}
	p.cols = make([]column, len(t.types))
	for i := range t.types {
		c, err := newColumn(t, i, mariadb)
		if err != nil {
			return err.Error()
		}
		if isJSON(c.typ) {
			p.json = append(p.json, i)
		}
		for w, want := range p.wanted {
			if strings.EqualFold(want, string(t.names[i])) {
				c.want = w
			}
		}
		if c.want >= 0 {
			if err := c.decodable(t, i, p.inKey(c.want)); err != nil {
				return err.Error()
			}
		}
		p.cols[i] = c
	}
	return ""
}

// inKey says whether a wanted column is part of a key.
func (p *plan) inKey(want int) bool {
	for _, r := range p.table.Rules() {
		for _, k := range r.KeyColumns() {
			if strings.EqualFold(k, p.wanted[want]) {
				return true
			}
		}
	}
	return false
}

// plans remembers plans by table id. The same TABLE_MAP event comes again with
// every statement, so a plan is made only when its bytes change.
type plans struct {
	schema  *keys.Schema
	mariadb bool
	byID    map[uint64]*plan
	older   map[uint64]*plan             // those from before byID was full: some are of the statement at hand
	names   func(*plan, *tableMap) error // finds column names that the binlog lacks; may be nil
}

// maxPlans bounds the memory that tables with many ids take, twice.
const maxPlans = 4096

func (ps *plans) tableMap(body []byte) error {
	if len(body) < 6 {
		return errTruncated
	}
	id := littleEndian(body[:6])
	if p, ok := ps.find(id); ok && bytes.Equal(p.body, body) {
		return nil
	}
	id, p, err := newPlan(ps.schema, body, ps.mariadb)
	if err == nil && ps.names != nil {
		err = ps.lookUp(p)
	}
	if err != nil {
		return err
	}
	ps.keep(id, p)
	return nil
}

func (ps *plans) keep(id uint64, p *plan) {
	if ps.byID == nil || len(ps.byID) >= maxPlans {
		ps.byID, ps.older = map[uint64]*plan{}, ps.byID
	}
	ps.byID[id] = p
}

func (ps *plans) find(id uint64) (*plan, bool) {
	if p, ok := ps.byID[id]; ok {
		return p, true
	}
	p, ok := ps.older[id]
	if ok {
		ps.keep(id, p)
	}
	return p, ok
}
