package table

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/doubletap-cdc/doubletap/keys"
)

// class is how the values of a key column go back to the server.
type class uint8

const (
	unordered class = iota // they cannot: FLOAT and DOUBLE, SET, and what has no order
	number                 // the digits
	member                 // ENUM: its number, by which it is sorted, see enum.go
	moment                 // quoted text, which the server understands as it printed it
	text                   // the bytes in the column's own character set
	octets                 // the bytes
)

func classOf(c *column) class {
	switch c.typ {
	case "tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "year", "bit":
		return number
	case "enum":
		return member
	case "date", "datetime", "timestamp", "time", "uuid", "inet4", "inet6":
		return moment
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext":
		return text
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob":
		return octets
	}
	return unordered
}

// keyExpr is what is read of a key column so that literal can say it again.
// Text that is not in UTF-8 already is read as its bytes: several codes of gbk or
// cp932 stand for one character, and would not come back as they were.
func (c *column) keyExpr() string {
	name := backtick(c.name)
	switch classOf(c) {
	case member:
		return name + " + 0"
	case number:
		if c.typ == "bit" {
			return name + " + 0" // else bytes are sent
		}
	case text:
		if c.charset != "utf8mb4" && c.charset != "utf8mb3" && c.charset != "utf8" && c.charset != "ascii" {
			return "CAST(" + name + " AS BINARY)"
		}
	case unordered, moment, octets:
	}
	return name
}

// literal makes SQL of a value of keyExpr: the same value for the server, in the
// column's own character set, so that the column, and its index, is compared as it
// is.
func (c *column) literal(v []byte) string {
	switch classOf(c) {
	case number, member:
		return string(v)
	case text:
		return "_" + c.charset + " X'" + hex.EncodeToString(v) + "'"
	case octets:
		return "X'" + hex.EncodeToString(v) + "'"
	case unordered, moment:
	}
	return "'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(string(v)) + "'"
}

// valueExpr is what is read of a column for its canonical text, and survived,
// where it is not empty, is an expression that is 0 where the text of a value got
// lost on its way into UTF-8 (the server puts ? for what it cannot convert).
func (c *column) valueExpr() (expr, survived string) {
	name := backtick(c.name)
	switch c.typ {
	case "bit":
		return name + " + 0", ""
	case "float":
		return name + " * 1e0", "" // else only six digits are printed
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set":
		switch c.charset {
		case "utf8mb4", "utf8mb3", "utf8", "ascii", "latin1", "binary":
		default:
			return name, "CAST(CONVERT(CONVERT(" + name + " USING utf8mb4) USING " + c.charset + ") AS BINARY) = CAST(" + name + " AS BINARY)"
		}
	}
	return name, ""
}

// kind is what the column's values are in an event.
func (c *column) kind() keys.Kind {
	if classOf(c) == number || c.typ == "float" || c.typ == "double" {
		return keys.Number
	}
	return keys.Text
}

// form is how the server's text becomes canonical text.
type form uint8

const (
	asIs     form = iota
	asUTF8        // checked
	asHex         //
	asDigit       // without the zeros of ZEROFILL, and without a minus before zero
	asFloat       // the shortest digits that name the FLOAT
	asDouble      // or the DOUBLE
)

func (c *column) form() form {
	switch classOf(c) {
	case number:
		return asDigit
	case octets:
		return asHex
	case text, member:
		return asUTF8
	case unordered:
		switch c.typ {
		case "float":
			return asFloat
		case "double":
			return asDouble
		}
		return asUTF8 // SET
	case moment:
	}
	return asIs
}

// usable says why a column of a rule cannot be read for it.
func (c *column) usable(inKey bool) error {
	if inKey {
		return keys.CheckType(c.full)
	}
	return keys.CheckConditionType(c.full)
}

// appendForm adds the canonical text of what the server printed; false if there is
// none.
func appendForm(dst, v []byte, f form) ([]byte, bool) {
	switch f {
	case asHex:
		return hex.AppendEncode(dst, v), true
	case asDigit:
		return appendDigits(dst, v), true
	case asUTF8:
		return append(dst, v...), utf8.Valid(v)
	case asFloat, asDouble:
		bits := 64
		if f == asFloat {
			bits = 32
		}
		n, err := strconv.ParseFloat(string(v), 64)
		return strconv.AppendFloat(dst, n, 'g', -1, bits), err == nil
	case asIs:
	}
	return append(dst, v...), true
}

func appendDigits(dst, v []byte) []byte {
	rest, minus := bytes.CutPrefix(v, []byte("-"))
	if minus && len(bytes.Trim(rest, "0.")) > 0 {
		dst = append(dst, '-')
	}
	for len(rest) > 1 && rest[0] == '0' && rest[1] != '.' {
		rest = rest[1:]
	}
	return append(dst, rest...)
}
