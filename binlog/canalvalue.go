package binlog

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/canal"
	"github.com/go-mysql-org/go-mysql/schema"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// canalTable is how the rows of one table are read, as canal describes it.
type canalTable struct {
	plan  plan
	from  *schema.Table // what it was made of
	index []int         // column of each wanted one, -1 if the table has none
	conv  []converter
	pk    []int
}

// converter makes canonical text of a value as canal gives it; false if that
// cannot be done with certainty.
type converter func(dst []byte, v any) ([]byte, keys.Kind, bool)

// table returns how to read an event's rows, nil if no rule wants them.
func (c *canalHandler) table(e *canal.RowsEvent) *canalTable {
	s := pipeline.Scope{DB: e.Table.Schema, Table: e.Table.Name} // only a place in the map: not quoted, see forget
	if t, ok := c.tables[s]; ok && t.from == e.Table {
		return t
	}
	rules := c.h.cfg.Schema.Table(e.Table.Schema, e.Table.Name)
	if rules == nil {
		return nil
	}
	t := &canalTable{from: e.Table, pk: e.Table.PKColumns}
	t.plan = plan{table: rules, db: e.Table.Schema, name: e.Table.Name, wanted: rules.Columns()}
	for w, name := range t.plan.wanted {
		at := -1
		var conv converter
		for i, col := range e.Table.Columns {
			if strings.EqualFold(col.Name, name) {
				at = i
				var why string
				if conv, why = converterFor(&col, t.plan.inKey(w)); why != "" {
					t.plan.stale = fmt.Sprintf("column %q %s", name, why)
				}
			}
		}
		t.index, t.conv = append(t.index, at), append(t.conv, conv)
	}
	c.tables[s] = t
	return t
}

// image converts one row image into the assembler's values from at on.
func (t *canalTable) image(a *assembler, at int, row []any) (doubt string) {
	if len(row) != len(t.from.Columns) {
		return fmt.Sprintf("a row has %d columns, the table %d now", len(row), len(t.from.Columns))
	}
	for _, i := range t.pk {
		if i < len(row) && row[i] == nil {
			return "a row image lacks its primary key (binlog_row_image is not FULL)"
		}
	}
	for w, i := range t.index {
		if i < 0 {
			continue // Absent
		}
		if row[i] == nil {
			a.vals[at+w].kind = keys.Null
			continue
		}
		from := len(a.buf)
		buf, kind, ok := t.conv[w](a.buf, row[i])
		if !ok {
			return fmt.Sprintf("a value of column %q is not what the table's definition says now", t.plan.wanted[w])
		}
		a.buf = buf
		a.vals[at+w] = value{kind, from, len(buf)}
	}
	return ""
}

// converterFor chooses by the column's type as SHOW FULL COLUMNS gives it.
func converterFor(col *schema.TableColumn, inKey bool) (converter, string) {
	check := keys.CheckConditionType
	if inKey {
		check = keys.CheckType
	}
	if err := check(col.RawType); err != nil {
		return nil, err.Error()
	}
	name, arg := splitType(col.RawType)
	switch name {
	case "tinyint", "smallint", "mediumint", "int", "integer", "bigint", "year":
		return convertInteger, ""
	case "decimal", "numeric":
		_, scale, _ := strings.Cut(arg, ",")
		n, err := strconv.Atoi(strings.TrimSpace(scale))
		if err != nil {
			return nil, "is a " + col.RawType
		}
		return convertDecimal(n), ""
	case "float", "double", "real":
		return convertFloat, ""
	case "bit":
		return convertBit, ""
	case "date", "datetime", "timestamp":
		return convertString, ""
	case "time":
		digits, _ := strconv.Atoi(arg)
		return convertTime(digits), ""
	case "enum", "set":
		return convertMembers(name, arg)
	case "binary":
		width, err := strconv.Atoi(arg)
		if err != nil {
			return nil, "is a " + col.RawType
		}
		return convertBinary(width), ""
	case "varbinary", "tinyblob", "blob", "mediumblob", "longblob":
		return convertBinary(0), ""
	}
	charset, _, _ := strings.Cut(col.Collation, "_")
	if charset == "utf8" {
		charset = "utf8mb3"
	}
	if charset == "binary" {
		return convertBinary(0), ""
	}
	text := transcoders[charset]
	if text == nil {
		return nil, fmt.Sprintf("has a character set (%q) that is not supported", charset)
	}
	return func(dst []byte, v any) ([]byte, keys.Kind, bool) {
		b, ok := stringBytes(v)
		if !ok {
			return dst, keys.Text, false
		}
		dst, ok = text(dst, b)
		return dst, keys.Text, ok
	}, ""
}

// splitType splits "decimal(10,2) unsigned" into "decimal" and "10,2".
func splitType(columnType string) (name, arg string) {
	name, rest, ok := strings.Cut(columnType, "(")
	if !ok {
		name, _, _ = strings.Cut(columnType, " ")
		return strings.ToLower(name), ""
	}
	arg = rest[:max(0, strings.LastIndexByte(rest, ')'))]
	return strings.ToLower(name), arg
}

func stringBytes(v any) ([]byte, bool) {
	switch v := v.(type) {
	case string:
		return []byte(v), true
	case []byte:
		return v, true
	}
	return nil, false
}

func convertInteger(dst []byte, v any) ([]byte, keys.Kind, bool) {
	switch v := v.(type) {
	case int8, int16, int32, int64, int, uint8, uint16, uint32, uint64, uint:
		return fmt.Append(dst, v), keys.Number, true
	}
	return dst, keys.Number, false
}

func convertString(dst []byte, v any) ([]byte, keys.Kind, bool) {
	s, ok := v.(string)
	return append(dst, s...), keys.Text, ok
}

func convertDecimal(scale int) converter {
	return func(dst []byte, v any) ([]byte, keys.Kind, bool) {
		s, ok := v.(string)
		if !ok {
			return dst, keys.Number, false
		}
		s, err := keys.Decimal(s, scale)
		return append(dst, s...), keys.Number, err == nil
	}
}

func convertFloat(dst []byte, v any) ([]byte, keys.Kind, bool) {
	switch v := v.(type) {
	case float32:
		return strconv.AppendFloat(dst, float64(v), 'g', -1, 32), keys.Number, true
	case float64:
		return strconv.AppendFloat(dst, v, 'g', -1, 64), keys.Number, true
	}
	return dst, keys.Number, false
}

// convertBit: the library gives a BIT(64) as a signed number; canal, where the
// column counts as unsigned, does not.
func convertBit(dst []byte, v any) ([]byte, keys.Kind, bool) {
	n, ok := v.(int64)
	return strconv.AppendUint(dst, uint64(n), 10), keys.Number, ok
}

// convertTime adds the fraction, which the library leaves out when it is zero.
func convertTime(digits int) converter {
	return func(dst []byte, v any) ([]byte, keys.Kind, bool) {
		s, ok := v.(string)
		dst = append(dst, s...)
		if digits > 0 && !strings.Contains(s, ".") {
			dst = appendFraction(dst, 0, digits)
		}
		return dst, keys.Text, ok
	}
}

func convertBinary(width int) converter {
	return func(dst []byte, v any) ([]byte, keys.Kind, bool) {
		b, ok := stringBytes(v)
		c := column{binary: true, width: width}
		dst, kind, _ := c.appendText(dst, b)
		return dst, kind, ok
	}
}

// convertMembers reads the member list itself: canal splits it at every comma.
func convertMembers(name, list string) (converter, string) {
	members, ok := parseMembers(list)
	if !ok {
		return nil, "has members that cannot be read with certainty"
	}
	add := appendSet
	if name == "enum" {
		add = appendEnum
	}
	return func(dst []byte, v any) ([]byte, keys.Kind, bool) {
		n, ok := v.(int64)
		if !ok {
			return dst, keys.Text, false
		}
		dst, ok = add(dst, uint64(n), members)
		return dst, keys.Text, ok
	}, ""
}

// parseMembers reads 'a','b”c'. Backslashes and what is not ASCII depend on
// settings of the connection that canal does not make.
func parseMembers(list string) (members [][]byte, ok bool) {
	for {
		if !strings.HasPrefix(list, "'") {
			return nil, false
		}
		var m []byte
		i := 1
		for ; i < len(list); i++ {
			switch {
			case list[i] == '\\' || list[i] >= 0x80:
				return nil, false
			case list[i] != '\'':
				m = append(m, list[i])
				continue
			case i+1 < len(list) && list[i+1] == '\'':
				m = append(m, '\'')
				i++
				continue
			}
			break
		}
		if i == len(list) {
			return nil, false
		}
		members = append(members, m)
		if list = list[i+1:]; list == "" {
			return members, true
		}
		if list, ok = strings.CutPrefix(list, ","); !ok {
			return nil, false
		}
	}
}
