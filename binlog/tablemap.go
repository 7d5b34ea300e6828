package binlog

import (
	"bytes"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
)

// Types that only MariaDB writes (go-mysql v1.16.0 has no names for them and
// reads a table that has such a column wrongly from there on).
const (
	typeBlobCompressed    = 140
	typeVarcharCompressed = 141
)

// tableMap is what a TABLE_MAP event says about a table. The types and meta
// data of the columns are always there, the rest only as far as
// binlog_row_metadata of the session that wrote it went.
type tableMap struct {
	id        uint64
	db, name  string
	types     []byte
	meta      []uint16
	names     [][]byte         // nil without FULL metadata
	unsigned  []bool           // by column; nil if not known
	collation []uint64         // by column, 0 if not known
	members   map[int][][]byte // ENUM and SET strings, by column
}

// tableName reads the beginning of a TABLE_MAP body, which is all that a table
// without rules needs.
func tableName(body []byte) (id uint64, db, name []byte, rest cursor, err error) {
	c := cursor{b: body}
	id = c.uint(6)
	c.take(2) // flags
	db = c.take(int(c.u8()))
	c.take(1)
	name = c.take(int(c.u8()))
	c.take(1)
	if c.bad {
		return 0, nil, nil, c, errTruncated
	}
	return id, db, name, c, nil
}

// parseTableMap reads a whole TABLE_MAP body. It copies what it keeps.
func parseTableMap(body []byte, mariadb bool) (*tableMap, error) {
	id, db, name, c, err := tableName(body)
	if err != nil {
		return nil, err
	}
	t := &tableMap{id: id, db: string(db), name: string(name)}
	n := c.count()
	t.types = bytes.Clone(c.take(n))
	meta := cursor{b: c.str()}
	c.take((n + 7) / 8) // which columns may be NULL
	if c.bad {
		return nil, errTruncated
	}
	t.meta = make([]uint16, n)
	for i, typ := range t.types {
		t.meta[i] = columnMeta(&meta, typ)
	}
	if meta.bad {
		return nil, errTruncated
	}
	if err := t.optional(&c, mariadb); err != nil {
		return nil, err
	}
	return t, nil
}

// columnMeta reads the meta data of one column; how much there is depends on
// the type.
func columnMeta(c *cursor, typ byte) uint16 {
	switch typ {
	case mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_NEWDECIMAL, mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET:
		return uint16(bigEndian(c.take(2)))
	case mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_BIT, typeVarcharCompressed:
		return uint16(c.uint(2))
	case mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_TINY_BLOB, mysql.MYSQL_TYPE_MEDIUM_BLOB, mysql.MYSQL_TYPE_LONG_BLOB,
		mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_JSON, mysql.MYSQL_TYPE_VECTOR, typeBlobCompressed,
		mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_DOUBLE,
		mysql.MYSQL_TYPE_TIME2, mysql.MYSQL_TYPE_DATETIME2, mysql.MYSQL_TYPE_TIMESTAMP2:
		return uint16(c.u8())
	default:
		return 0
	}
}

// optional reads the optional meta data: a list of type, length, value.
func (t *tableMap) optional(c *cursor, mariadb bool) error {
	isChar := func(i int) bool { return t.character(i, mariadb) }
	var enums, sets [][][]byte
	for len(c.b) > 0 && !c.bad {
		kind := c.u8()
		v := cursor{b: c.str()}
		switch kind {
		case replication.TABLE_MAP_OPT_META_SIGNEDNESS:
			t.signedness(v.b)
		case replication.TABLE_MAP_OPT_META_DEFAULT_CHARSET:
			t.defaultCharset(&v, isChar)
		case replication.TABLE_MAP_OPT_META_COLUMN_CHARSET:
			t.columnCharset(&v, isChar)
		case replication.TABLE_MAP_OPT_META_ENUM_AND_SET_DEFAULT_CHARSET:
			t.defaultCharset(&v, t.enumOrSet)
		case replication.TABLE_MAP_OPT_META_ENUM_AND_SET_COLUMN_CHARSET:
			t.columnCharset(&v, t.enumOrSet)
		case replication.TABLE_MAP_OPT_META_COLUMN_NAME:
			t.columnNames(&v)
		case replication.TABLE_MAP_OPT_META_ENUM_STR_VALUE:
			enums = memberLists(&v)
		case replication.TABLE_MAP_OPT_META_SET_STR_VALUE:
			sets = memberLists(&v)
		}
		if v.bad {
			return errTruncated
		}
	}
	if c.bad {
		return errTruncated
	}
	t.assignMembers(enums, sets)
	return nil
}

// realType is the type as the table has it: ENUM and SET travel as STRING.
func (t *tableMap) realType(i int) byte {
	if t.types[i] == mysql.MYSQL_TYPE_STRING {
		if r := byte(t.meta[i] >> 8); r == mysql.MYSQL_TYPE_ENUM || r == mysql.MYSQL_TYPE_SET {
			return r
		}
	}
	return t.types[i]
}

func (t *tableMap) numeric(i int) bool {
	switch t.types[i] {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_LONG,
		mysql.MYSQL_TYPE_LONGLONG, mysql.MYSQL_TYPE_DECIMAL, mysql.MYSQL_TYPE_NEWDECIMAL,
		mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_DOUBLE, mysql.MYSQL_TYPE_YEAR:
		return true
	}
	return false
}

// character says whether a column has an entry in the character sets. MariaDB
// counts GEOMETRY among them, MySQL does not; MySQL counts VECTOR (measured on
// 9.7.4; go-mysql v1.16.0 does not, and gives the columns behind a VECTOR the
// wrong character set).
func (t *tableMap) character(i int, mariadb bool) bool {
	switch t.realType(i) {
	case mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_BLOB,
		typeBlobCompressed, typeVarcharCompressed:
		return true
	case mysql.MYSQL_TYPE_GEOMETRY:
		return mariadb
	case mysql.MYSQL_TYPE_VECTOR:
		return !mariadb
	}
	return false
}

func (t *tableMap) enumOrSet(i int) bool {
	r := t.realType(i)
	return r == mysql.MYSQL_TYPE_ENUM || r == mysql.MYSQL_TYPE_SET
}

func (t *tableMap) signedness(bits []byte) {
	t.unsigned = make([]bool, len(t.types))
	n := 0
	for i := range t.types {
		if !t.numeric(i) {
			continue
		}
		if n/8 < len(bits) {
			t.unsigned[i] = bits[n/8]&(0x80>>(n%8)) != 0
		}
		n++
	}
}

// defaultCharset reads one collation for all columns that has(i) names, then
// pairs of (how many-th such column, its collation).
func (t *tableMap) defaultCharset(c *cursor, has func(int) bool) {
	common := c.lenenc()
	own := map[uint64]uint64{}
	for len(c.b) > 0 && !c.bad {
		i := c.lenenc()
		own[i] = c.lenenc()
	}
	t.collations(has, func(n uint64) uint64 {
		if id, ok := own[n]; ok {
			delete(own, n)
			return id
		}
		return common
	})
	c.bad = c.bad || len(own) > 0 // we count the columns in another way than the server
}

func (t *tableMap) columnCharset(c *cursor, has func(int) bool) {
	t.collations(has, func(uint64) uint64 { return c.lenenc() })
	c.bad = c.bad || len(c.b) > 0
}

func (t *tableMap) collations(has func(int) bool, of func(n uint64) uint64) {
	if t.collation == nil {
		t.collation = make([]uint64, len(t.types))
	}
	n := uint64(0)
	for i := range t.types {
		if has(i) {
			t.collation[i] = of(n)
			n++
		}
	}
}

func (t *tableMap) columnNames(c *cursor) {
	t.names = make([][]byte, 0, len(t.types))
	for len(c.b) > 0 && !c.bad {
		t.names = append(t.names, bytes.Clone(c.str()))
	}
	if len(t.names) != len(t.types) {
		c.bad = true
	}
}

func memberLists(c *cursor) (lists [][][]byte) {
	for len(c.b) > 0 && !c.bad {
		n := c.count()
		list := make([][]byte, 0, n)
		for range n {
			list = append(list, bytes.Clone(c.str()))
		}
		lists = append(lists, list)
	}
	return lists
}

// assignMembers gives each ENUM and SET column its list, in column order.
func (t *tableMap) assignMembers(enums, sets [][][]byte) {
	t.members = map[int][][]byte{}
	for i := range t.types {
		var from *[][][]byte
		switch t.realType(i) {
		case mysql.MYSQL_TYPE_ENUM:
			from = &enums
		case mysql.MYSQL_TYPE_SET:
			from = &sets
		default:
			continue
		}
		if len(*from) > 0 {
			t.members[i] = (*from)[0]
			*from = (*from)[1:]
		}
	}
}
