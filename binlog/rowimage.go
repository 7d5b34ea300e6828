package binlog

import (
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/doubletap-cdc/doubletap/keys"
)

// rowsKind says what a rows event holds.
type rowsKind struct {
	before, after bool
	v2            bool // has the version 2 header
	partial       bool // after images may hold JSON diffs
	compressed    bool // MariaDB: the rows are zlib data
}

// rowsKinds are the rows events that are understood. The version 0 events of
// MySQL 5.1.15 and before are not.
var rowsKinds = map[replication.EventType]rowsKind{
	replication.WRITE_ROWS_EVENTv1:                      {after: true},
	replication.UPDATE_ROWS_EVENTv1:                     {before: true, after: true},
	replication.DELETE_ROWS_EVENTv1:                     {before: true},
	replication.WRITE_ROWS_EVENTv2:                      {after: true, v2: true},
	replication.UPDATE_ROWS_EVENTv2:                     {before: true, after: true, v2: true},
	replication.DELETE_ROWS_EVENTv2:                     {before: true, v2: true},
	replication.PARTIAL_UPDATE_ROWS_EVENT:               {before: true, after: true, v2: true, partial: true},
	replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1:  {after: true, compressed: true},
	replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1: {before: true, after: true, compressed: true},
	replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1: {before: true, compressed: true},
}

// noTable is the id that ends a statement in a rows event without rows.
const noTable = 0xffffff

// rowsEvent is a rows event's header and what is to be read of it.
type rowsEvent struct {
	kind       rowsKind
	plan       *plan
	bitmap     [2][]byte // columns in the before and the after image
	rows       []byte
	lastOfStmt bool
}

// parseRowsEvent reads the header of a rows event. plan is nil when nothing is
// to be read of the event.
func parseRowsEvent(kind rowsKind, body []byte, ps *plans) (rowsEvent, error) {
	e := rowsEvent{kind: kind}
	c := cursor{b: body}
	id := c.uint(6)
	e.lastOfStmt = c.uint(2)&replication.RowsEventStmtEndFlag != 0
	if kind.v2 {
		c.take(int(c.uint(2)) - 2) // its own length counts
	}
	columns := c.lenenc()
	if c.bad {
		return e, errTruncated
	}
	p, ok := ps.find(id)
	if !ok {
		if id == noTable {
			return e, nil
		}
		return e, fmt.Errorf("rows for the table id %d, which no table map event explains", id)
	}
	if p.table == nil || p.stale != "" || len(p.wanted) == 0 {
		e.plan = p
		return e, nil
	}
	if columns != uint64(len(p.cols)) {
		return e, fmt.Errorf("rows of %s.%s have %d columns, its table map %d", p.db, p.name, columns, len(p.cols))
	}
	n := (len(p.cols) + 7) / 8
	e.bitmap[0] = c.take(n)
	e.bitmap[1] = e.bitmap[0]
	if kind.before && kind.after {
		e.bitmap[1] = c.take(n)
	}
	if c.bad {
		return e, errTruncated
	}
	e.plan, e.rows = p, c.b
	if kind.compressed {
		rows, err := mysql.DecompressMariadbData(c.b)
		if err != nil {
			return e, fmt.Errorf("decompress rows of %s.%s: %w", p.db, p.name, err)
		}
		e.rows = rows
	}
	return e, nil
}

// value is one wanted column's value: text[from:to] of the row's buffer.
type value struct {
	kind     keys.Kind
	from, to int
}

func bit(bitmap []byte, i int) bool { return bitmap[i>>3]&(1<<(i&7)) != 0 }

// image reads one row image at the start of b: it sets vals, one for each
// wanted column, appends their texts to buf, and returns what follows the image.
// A doubt makes the whole table stale.
func (p *plan) image(b, present []byte, after, partial bool, vals []value, buf []byte) (rest, out []byte, doubt string, err error) {
	diffs := []byte(nil)
	if after && partial {
		if b, diffs, err = p.diffBitmap(b); err != nil {
			return nil, buf, "", err
		}
	}
	n := 0
	for i := range p.cols {
		if bit(present, i) {
			n++
		}
	}
	if len(b) < (n+7)/8 {
		return nil, buf, "", errTruncated
	}
	nulls, b := b[:(n+7)/8], b[(n+7)/8:]
	n = 0
	for i := range p.cols {
		c := &p.cols[i]
		if !bit(present, i) {
			continue // the wanted value stays Absent
		}
		null := bit(nulls, n)
		n++
		if null {
			if c.want >= 0 {
				vals[c.want].kind = keys.Null
			}
			continue
		}
		v, size := c.size(b)
		if size < 0 {
			return nil, buf, "", errTruncated
		}
		b = b[size:]
		if c.want < 0 {
			continue
		}
		if diffs != nil && isJSON(c.typ) {
			return nil, buf, "a wanted column is a JSON difference", nil
		}
		var kind keys.Kind
		from := len(buf)
		if buf, kind, doubt = c.append(buf, v); doubt != "" {
			return nil, buf, doubt, nil
		}
		vals[c.want] = value{kind, from, len(buf)}
	}
	return b, buf, "", nil
}

// diffBitmap reads what stands before the after image of a
// PARTIAL_UPDATE_ROWS_EVENT: options, and a bit for each JSON column that says
// whether a difference stands in its place. A difference has the same form of
// length as a document, so it is skipped like one.
func (p *plan) diffBitmap(b []byte) (rest, diffs []byte, err error) {
	c := cursor{b: b}
	if c.lenenc()&1 != 0 {
		diffs = c.take((len(p.json) + 7) / 8)
	}
	if c.bad {
		return nil, nil, errTruncated
	}
	return c.b, diffs, nil
}

func isJSON(typ byte) bool { return typ == mysql.MYSQL_TYPE_JSON }
