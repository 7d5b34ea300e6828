package table

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// checkWhere refuses what would not stay within the parentheses that a condition
// is put in. The server does not take several statements at once in any case; this
// is for mistakes, which must not widen or narrow what is replayed.
func checkWhere(where string) error {
	fail := func(why string) error { return fmt.Errorf("the condition %q %s", where, why) }
	if where == "" {
		return nil
	}
	word, _, _ := strings.Cut(strings.TrimSpace(where), " ")
	switch {
	case word == "":
		return errors.New("the condition is empty: leave it out to replay all rows")
	case strings.EqualFold(word, "where"):
		return fail("begins with WHERE: give what comes after it")
	case strings.EqualFold(word, "select"):
		return fail("is a query: give what would come after WHERE")
	}
	open := 0
	for i := 0; i < len(where); i++ {
		rest := where[i:]
		switch c := where[i]; {
		case c == '\'' || c == '"' || c == '`':
			n := quoted(rest)
			if n < 0 {
				return fail("has a quote " + string(c) + " that is not closed")
			}
			i += n - 1
		case c == '(':
			open++
		case c == ')':
			if open--; open < 0 {
				return fail("closes a parenthesis that it did not open")
			}
		case c == ';':
			return fail("has a ; : give one condition")
		case c == '#' || strings.HasPrefix(rest, "/*") || strings.HasPrefix(rest, "--"):
			return fail("has a comment (a double minus counts as one): leave it out")
		case c == 0:
			return fail("has a zero byte")
		}
	}
	if open > 0 {
		return fail("opens a parenthesis that it does not close")
	}
	return nil
}

// quoted returns the length of the quoted text at the start of s, -1 if it does
// not end. A quote within is doubled, or escaped, but for names.
func quoted(s string) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && s[0] != '`':
			i++
		case s[i] != s[0]:
		case i+1 < len(s) && s[i+1] == s[0]:
			i++
		default:
			return i + 1
		}
	}
	return -1
}

// maxFound is how many rows an index may find for a condition so that it is better
// than a walk: each chunk finds all of them again.
const maxFound = 200_000

// tryWhere has the server look at a condition. by is the index that finds its rows,
// about so many, where that is far less work than to walk the table.
func tryWhere(ctx context.Context, c Conn, t *table, where string, now int64) (by string, rows int64, err error) {
	if err := ready(ctx, c, t.db, now); err != nil {
		return "", 0, err
	}
	var plan [][]string
	err = c.Query(ctx, "EXPLAIN FORMAT=TRADITIONAL SELECT 1 FROM "+t.path()+" WHERE ("+where+")", func(v [][]byte) error {
		row := make([]string, len(v))
		for i := range v {
			row[i] = string(v[i])
		}
		plan = append(plan, row)
		return nil
	})
	my, ok := errors.AsType[*mysql.MyError](err)
	if !ok || passing[my.Code] {
		by, rows = foundBy(plan)
		if t.rows < 0 || rows > t.rows/10 || rows > maxFound {
			by = ""
		}
		return by, rows, err
	}
	hint := "it is put after WHERE, such as: price > 10 AND status = 'new'"
	if my.Code == codeBadColumn {
		hint = "the columns are " + strings.Join(t.columnNames(), ", ") + "; text stands in single quotes"
	}
	return "", 0, fmt.Errorf("the condition %q: the server says %q; %s: %w", where, my.Message, hint, pipeline.ErrFatal)
}

// foundBy reads what EXPLAIN says: the one index that a statement goes by, "" where
// there is none or the statement reads other tables too.
func foundBy(plan [][]string) (index string, rows int64) {
	if len(plan) != 1 {
		return "", 0
	}
	row := plan[0]
	if len(row) == 12 { // MySQL has the partitions, and what is filtered
		row = append(row[:3:3], row[4:]...)
	}
	if len(row) < 9 {
		return "", 0
	}
	switch access := row[3]; access {
	case "ref", "range", "const", "ref_or_null":
	default:
		return "", 0
	}
	rows, err := strconv.ParseInt(row[8], 10, 64)
	if err != nil {
		return "", 0
	}
	return row[5], rows
}

const codeBadColumn = 1054

// ready prepares a session for a condition: its tables are those of the database,
// and its clock stands still, so that it means the same in every chunk.
func ready(ctx context.Context, c Conn, db string, now int64) error {
	for _, sql := range []string{"USE " + backtick(db), "SET SESSION timestamp = " + strconv.FormatInt(now, 10)} {
		if err := c.Query(ctx, sql, nil); err != nil {
			return fmt.Errorf("prepare for the condition: %w", err)
		}
	}
	return nil
}
