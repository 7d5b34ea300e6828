package table

import (
	"encoding/hex"
	"strconv"
	"strings"
)

// backtick quotes a name.
func backtick(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// quote makes a literal of text in UTF-8, whatever is in it and whatever the
// session's sql_mode.
func quote(text string) string { return "_utf8mb4 X'" + hex.EncodeToString([]byte(text)) + "'" }

// chunkSQL is the statement that reads up to limit rows behind after, up to until.
// The key is forced: with ORDER BY and LIMIT the optimizer may think otherwise, and
// then each chunk would sort the rest of the table. Where another index finds the
// few rows of a condition, that one is forced, and they are sorted.
func (t *table) chunkSQL(r *rowReader, after, until []string, limit int) string {
	var conds []string
	if r.found != "" {
		conds = append(conds, "("+r.found+")")
	}
	if after != nil {
		conds = append(conds, t.key.beyond(after))
	}
	if until != nil {
		conds = append(conds, t.key.upTo(until))
	}
	sql := "SELECT " + strings.Join(r.exprs, ", ") + " FROM " + t.path() + " FORCE INDEX (" + backtick(r.by) + ")"
	if len(conds) > 0 {
		sql += " WHERE " + strings.Join(conds, " AND ")
	}
	return sql + " ORDER BY " + t.key.order(false) + " LIMIT " + strconv.Itoa(limit)
}

func (t *table) from() string {
	return " FROM " + t.path() + " FORCE INDEX (" + backtick(t.key.name) + ")"
}

func (t *table) path() string { return backtick(t.db) + "." + backtick(t.name) }

// order is the ORDER BY in which the index stands, or the reverse.
func (k *key) order(reverse bool) string {
	cols := make([]string, len(k.columns))
	for i, c := range k.columns {
		cols[i] = backtick(c.name)
		if c.desc != reverse {
			cols[i] += " DESC"
		}
	}
	return strings.Join(cols, ", ")
}

// beyond is the condition for keys behind one: for two columns
//
//	a >= x AND (a > x OR (a = x AND b > y))
//
// MySQL does not use an index for (a, b) > (x, y). The bound on the first column
// follows from the rest; it is there for optimizers that do not see it.
func (k *key) beyond(literals []string) string { return k.compare(literals, 0, ">", ">") }

// upTo is the condition for keys up to and with one.
func (k *key) upTo(literals []string) string { return k.compare(literals, 0, "<", "<=") }

func (k *key) compare(literals []string, i int, op, last string) string {
	c, v := k.columns[i], literals[i]
	if i == len(k.columns)-1 {
		return c.compare(c.turned(last), v)
	}
	cond := "(" + c.compare(c.turned(op), v) + " OR (" + c.compare("=", v) + " AND " + k.compare(literals, i+1, op, last) + "))"
	if i == 0 {
		cond = c.compare(c.turned(op+"="), v) + " AND " + cond
	}
	return cond
}

func (c *keyColumn) compare(op, literal string) string {
	if classOf(c.column) == member {
		return c.compareEnum(op, literal)
	}
	return backtick(c.name) + " " + op + " " + literal
}

// turned is a comparison as the column's direction in the index has it.
func (c *keyColumn) turned(op string) string {
	if !c.desc {
		return op
	}
	if op[0] == '<' {
		return ">" + op[1:]
	}
	return "<" + op[1:]
}
