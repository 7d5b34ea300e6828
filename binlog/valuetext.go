package binlog

import (
	"encoding/binary"
	"math"
	"strconv"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/doubletap-cdc/doubletap/keys"
)

// append adds the canonical text of v, a value that size found, to dst. A
// doubt, where there is one, says why there is no certain text.
func (c *column) append(dst, v []byte) (out []byte, kind keys.Kind, doubt string) {
	switch c.typ {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_LONGLONG:
		u := littleEndian(v)
		if c.unsigned {
			return strconv.AppendUint(dst, u, 10), keys.Number, ""
		}
		shift := 64 - 8*len(v)
		return strconv.AppendInt(dst, int64(u<<shift)>>shift, 10), keys.Number, ""
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		return appendDecimal(dst, v, int(c.meta>>8), int(c.meta&0xff)), keys.Number, ""
	case mysql.MYSQL_TYPE_YEAR:
		if v[0] == 0 {
			return append(dst, '0'), keys.Number, ""
		}
		return strconv.AppendInt(dst, 1900+int64(v[0]), 10), keys.Number, ""
	case mysql.MYSQL_TYPE_FLOAT:
		f := float64(math.Float32frombits(binary.LittleEndian.Uint32(v)))
		return strconv.AppendFloat(dst, f, 'g', -1, 32), keys.Number, ""
	case mysql.MYSQL_TYPE_DOUBLE:
		f := math.Float64frombits(binary.LittleEndian.Uint64(v))
		return strconv.AppendFloat(dst, f, 'g', -1, 64), keys.Number, ""
	case mysql.MYSQL_TYPE_BIT:
		return strconv.AppendUint(dst, bigEndian(v), 10), keys.Number, ""
	case mysql.MYSQL_TYPE_ENUM:
		out, ok := appendEnum(dst, littleEndian(v), c.members)
		return out, keys.Text, doubtIf(!ok, "an ENUM value has no name")
	case mysql.MYSQL_TYPE_SET:
		out, ok := appendSet(dst, littleEndian(v), c.members)
		return out, keys.Text, doubtIf(!ok, "a SET value has no name")
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE:
		return appendDate(dst, littleEndian(v)), keys.Text, ""
	case mysql.MYSQL_TYPE_TIME2:
		return appendTime2(dst, v, int(c.meta)), keys.Text, ""
	case mysql.MYSQL_TYPE_DATETIME2:
		return appendDatetime2(dst, v, int(c.meta)), keys.Text, ""
	case mysql.MYSQL_TYPE_TIMESTAMP2:
		return appendTimestamp2(dst, v, int(c.meta)), keys.Text, ""
	case mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_TIMESTAMP:
		return appendOldTemporal(dst, c.typ, littleEndian(v)), keys.Text, ""
	default:
		return c.appendText(dst, v)
	}
}

func doubtIf(doubtful bool, reason string) string {
	if doubtful {
		return reason
	}
	return ""
}

// appendText adds a string: hex for binary strings, else UTF-8.
func (c *column) appendText(dst, v []byte) ([]byte, keys.Kind, string) {
	if c.binary {
		const digits = "0123456789abcdef"
		for _, b := range v {
			dst = append(dst, digits[b>>4], digits[b&15])
		}
		// The binlog leaves out the zeros at the end of a BINARY(n).
		for range c.width - len(v) {
			dst = append(dst, '0', '0')
		}
		return dst, keys.Text, ""
	}
	out, ok := c.text(dst, v)
	return out, keys.Text, doubtIf(!ok, "a value is not valid text in its character set")
}

func appendEnum(dst []byte, index uint64, members [][]byte) ([]byte, bool) {
	if index == 0 { // what a bad value became outside strict mode: ''
		return dst, true
	}
	if index > uint64(len(members)) {
		return dst, false
	}
	return append(dst, members[index-1]...), true
}

func appendSet(dst []byte, bits uint64, members [][]byte) ([]byte, bool) {
	first := true
	for i := 0; bits != 0; i, bits = i+1, bits>>1 {
		if bits&1 == 0 {
			continue
		}
		if i >= len(members) {
			return dst, false
		}
		if !first {
			dst = append(dst, ',')
		}
		dst, first = append(dst, members[i]...), false
	}
	return dst, true
}

func appendTimestamp2(dst, v []byte, digits int) []byte {
	sec := binary.BigEndian.Uint32(v)
	if sec == 0 {
		dst = append(dst, "0000-00-00 00:00:00"...)
	} else {
		dst = time.Unix(int64(sec), 0).UTC().AppendFormat(dst, "2006-01-02 15:04:05")
	}
	return appendFraction(dst, int64(bigEndian(v[4:])), digits)
}

func typeName(typ byte) string {
	names := map[byte]string{
		mysql.MYSQL_TYPE_FLOAT: "FLOAT", mysql.MYSQL_TYPE_DOUBLE: "DOUBLE", mysql.MYSQL_TYPE_JSON: "JSON",
		mysql.MYSQL_TYPE_GEOMETRY: "GEOMETRY", mysql.MYSQL_TYPE_VECTOR: "VECTOR",
		typeBlobCompressed: "BLOB COMPRESSED", typeVarcharCompressed: "VARCHAR COMPRESSED",
	}
	if n, ok := names[typ]; ok {
		return n
	}
	return strconv.Itoa(int(typ))
}
