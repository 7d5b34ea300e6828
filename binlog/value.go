package binlog

import (
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// column knows how to find the end of one column's value in a row image, and,
// where the key schema wants it, how to make canonical text of it.
type column struct {
	typ      byte
	meta     uint16
	fixed    int // length of the value; -1 if a length stands before it
	prefix   int // length of that length
	want     int // index among the wanted columns, -1 if nobody wants it
	unsigned bool
	width    int // BINARY(n): n, else 0
	binary   bool
	text     transcoder // character columns
	members  [][]byte   // ENUM and SET, in UTF-8
}

// newColumn works out the layout of column i. The error says why the length of
// its values, and so all that follows in the row, is not known.
func newColumn(t *tableMap, i int, mariadb bool) (column, error) {
	c := column{typ: t.realType(i), meta: t.meta[i], want: -1, fixed: -1}
	if t.unsigned != nil {
		c.unsigned = t.unsigned[i]
	}
	switch c.typ {
	case mysql.MYSQL_TYPE_NULL:
		c.fixed = 0
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_YEAR:
		c.fixed = 1
	case mysql.MYSQL_TYPE_SHORT:
		c.fixed = 2
	case mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE:
		c.fixed = 3
	case mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_FLOAT:
		c.fixed = 4
	case mysql.MYSQL_TYPE_LONGLONG, mysql.MYSQL_TYPE_DOUBLE:
		c.fixed = 8
	case mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_TIMESTAMP:
		if mariadb {
			// With mysql56_temporal_format=OFF the length depends on the number of
			// fraction digits, which the binlog does not tell.
			return c, fmt.Errorf("column %d is in MariaDB's old temporal format, whose length the binlog does not tell", i+1)
		}
		c.fixed = map[byte]int{mysql.MYSQL_TYPE_TIME: 3, mysql.MYSQL_TYPE_DATETIME: 8, mysql.MYSQL_TYPE_TIMESTAMP: 4}[c.typ]
	case mysql.MYSQL_TYPE_TIME2:
		c.fixed = 3 + fractionBytes(c.meta)
	case mysql.MYSQL_TYPE_DATETIME2:
		c.fixed = 5 + fractionBytes(c.meta)
	case mysql.MYSQL_TYPE_TIMESTAMP2:
		c.fixed = 4 + fractionBytes(c.meta)
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		c.fixed = decimalSize(int(c.meta>>8), int(c.meta&0xff))
	case mysql.MYSQL_TYPE_BIT:
		c.fixed = (int(c.meta>>8)*8 + int(c.meta&0xff) + 7) / 8
	case mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET:
		c.fixed = int(c.meta & 0xff)
	case mysql.MYSQL_TYPE_STRING:
		// Two bits of the length hide, inverted, in the byte that holds the type.
		high := int(c.meta>>8) & 0x30
		c.setWidth((high^0x30)<<4 | int(c.meta&0xff))
	case mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, typeVarcharCompressed:
		c.setWidth(int(c.meta))
		c.width = 0
	case mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_TINY_BLOB, mysql.MYSQL_TYPE_MEDIUM_BLOB, mysql.MYSQL_TYPE_LONG_BLOB,
		mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_JSON, mysql.MYSQL_TYPE_VECTOR, typeBlobCompressed:
		c.prefix = int(c.meta)
		if c.prefix < 1 || c.prefix > 4 {
			return c, fmt.Errorf("column %d has a length of %d bytes", i+1, c.prefix)
		}
	default:
		return c, fmt.Errorf("column %d is of the unknown type %d", i+1, c.typ)
	}
	return c, nil
}

func (c *column) setWidth(n int) {
	c.width, c.prefix = n, 1
	if n > 255 {
		c.prefix = 2
	}
}

// size splits the value at the start of b: its content and its length in b
// including the length before it. n is -1 if b ends before the value does.
func (c *column) size(b []byte) (v []byte, n int) {
	if c.fixed >= 0 {
		if len(b) < c.fixed {
			return nil, -1
		}
		return b[:c.fixed], c.fixed
	}
	if len(b) < c.prefix {
		return nil, -1
	}
	l := littleEndian(b[:c.prefix])
	if l > uint64(len(b)-c.prefix) {
		return nil, -1
	}
	n = c.prefix + int(l)
	return b[c.prefix:n], n
}

// decodable prepares the column for append; the error says why its values
// cannot be made into canonical text with certainty. inKey is set where the
// text becomes part of a key and so must be what applications make of it; other
// columns only need to have the same text for the same value.
func (c *column) decodable(t *tableMap, i int, inKey bool) error {
	name := fmt.Sprintf("column %q", t.names[i])
	switch c.typ {
	case mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_DOUBLE:
		if inKey {
			return fmt.Errorf("%s is of type %s, which no key can hold", name, typeName(c.typ))
		}
	case mysql.MYSQL_TYPE_JSON, mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_VECTOR, mysql.MYSQL_TYPE_NULL,
		typeBlobCompressed, typeVarcharCompressed:
		return fmt.Errorf("%s is of type %s, which has no canonical text", name, typeName(c.typ))
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_LONGLONG:
		if t.unsigned == nil {
			return fmt.Errorf("the binlog does not say whether %s is unsigned", name)
		}
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		if p, s := int(c.meta>>8), int(c.meta&0xff); p > 65 || s > p {
			return fmt.Errorf("%s is a DECIMAL(%d,%d)", name, p, s)
		}
	case mysql.MYSQL_TYPE_BIT:
		if c.fixed > 8 {
			return fmt.Errorf("%s is a BIT of %d bytes", name, c.fixed)
		}
	case mysql.MYSQL_TYPE_TIME2, mysql.MYSQL_TYPE_DATETIME2, mysql.MYSQL_TYPE_TIMESTAMP2:
		if c.meta > 6 {
			return fmt.Errorf("%s has %d fraction digits", name, c.meta)
		}
	case mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET:
		return c.decodableMembers(t, i, name)
	case mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_BLOB,
		mysql.MYSQL_TYPE_TINY_BLOB, mysql.MYSQL_TYPE_MEDIUM_BLOB, mysql.MYSQL_TYPE_LONG_BLOB:
		return c.decodableText(t, i, name)
	}
	return nil
}

func (c *column) decodableText(t *tableMap, i int, name string) error {
	if t.collation == nil || t.collation[i] == 0 {
		return fmt.Errorf("the binlog does not say which character set %s has", name)
	}
	id := t.collation[i]
	if c.binary = id == collationBinary; c.binary {
		return nil
	}
	if c.text = transcoders[charsetOf(id)]; c.text == nil {
		return fmt.Errorf("%s has a character set (collation %d) that is not supported", name, id)
	}
	return nil
}

func (c *column) decodableMembers(t *tableMap, i int, name string) error {
	list := t.members[i]
	if list == nil || c.fixed < 1 || c.fixed > 8 {
		return fmt.Errorf("the binlog does not name the members of %s", name)
	}
	convert := utf8Text
	if t.collation != nil && t.collation[i] != 0 && t.collation[i] != collationBinary {
		if convert = transcoders[charsetOf(t.collation[i])]; convert == nil {
			return fmt.Errorf("%s has a character set (collation %d) that is not supported", name, t.collation[i])
		}
	}
	c.members = make([][]byte, len(list))
	for j, m := range list {
		text, ok := convert(nil, m)
		if !ok {
			return fmt.Errorf("member %d of %s is not valid text", j+1, name)
		}
		c.members[j] = text
	}
	return nil
}
