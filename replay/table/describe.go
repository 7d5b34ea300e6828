package table

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/doubletap-cdc/doubletap/internal/nearest"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// table is what the server says of one.
type table struct {
	db, name string
	rows     int64 // about; -1 if it does not say
	columns  []column
	keys     []key // that it can be walked by, the best one first
	refused  []string
	key      *key // the one that it is walked by
}

// column is one as information_schema describes it.
type column struct {
	name, typ, full    string // "int", "int(10) unsigned zerofill"; "enum", "enum('a','B')"
	charset, collation string // empty where it is not text
	notNull            bool
	scale              int // of a DECIMAL
	width              int // of a BINARY: bytes
}

// key is a unique key of NOT NULL columns.
type key struct {
	name    string
	columns []keyColumn
}

type keyColumn struct {
	*column
	desc bool // in the index
}

func (k *key) names() []string {
	names := make([]string, len(k.columns))
	for i, c := range k.columns {
		names[i] = c.name
	}
	return names
}

// describe asks the server for a table. The error wraps pipeline.ErrFatal where
// the table cannot be walked.
func describe(ctx context.Context, c Conn, db, name string) (*table, error) {
	t := &table{db: db, name: name, rows: -1}
	where := "TABLE_SCHEMA = " + quote(db) + " AND TABLE_NAME = " + quote(name)
	kind := ""
	err := c.Query(ctx, "SELECT TABLE_NAME, TABLE_TYPE, TABLE_ROWS FROM information_schema.TABLES WHERE "+where, func(v [][]byte) error {
		if string(v[0]) == name { // the server may compare it otherwise
			kind = string(v[1])
			if n, err := strconv.ParseInt(string(v[2]), 10, 64); err == nil {
				t.rows = n
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("look up table %s.%s: %w", db, name, lasting(err))
	case kind == "":
		return nil, unknownTable(ctx, c, db, name)
	case strings.Contains(kind, "VIEW") || kind == "SEQUENCE":
		return nil, fmt.Errorf("%s.%s is a %s, which has no rows of its own: name the tables that it reads: %w", db, name, strings.ToLower(kind), pipeline.ErrFatal)
	}
	err = c.Query(ctx, `SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, CHARACTER_SET_NAME, COLLATION_NAME, NUMERIC_SCALE, CHARACTER_OCTET_LENGTH
		FROM information_schema.COLUMNS WHERE `+where+" ORDER BY ORDINAL_POSITION", func(v [][]byte) error {
		scale, _ := strconv.Atoi(string(v[6]))
		width, _ := strconv.Atoi(string(v[7]))
		t.columns = append(t.columns, column{
			name: string(v[0]), typ: strings.ToLower(string(v[1])), full: string(v[2]), notNull: string(v[3]) == "NO",
			charset: string(v[4]), collation: string(v[5]), scale: scale, width: width,
		})
		return nil
	})
	if err == nil {
		err = t.describeKeys(ctx, c, where)
	}
	if err != nil {
		return nil, fmt.Errorf("look up the columns of %s.%s: %w", db, name, lasting(err))
	}
	return t, nil
}

func unknownTable(ctx context.Context, c Conn, db, name string) error {
	var names []string
	err := c.Query(ctx, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = "+quote(db), func(v [][]byte) error {
		names = append(names, string(v[0]))
		return nil
	})
	if err != nil {
		return fmt.Errorf("look up the tables of %s: %w", db, lasting(err))
	}
	return fmt.Errorf("table %s.%s does not exist, or the user may not see it%s: %w", db, name, meant(name, names), pipeline.ErrFatal)
}

func meant(name string, known []string) string {
	near := nearest.Name(name, known)
	switch {
	case near == "":
		return ""
	case strings.EqualFold(near, name):
		return fmt.Sprintf(" (names compare letter by letter; did you mean %q?)", near)
	}
	return fmt.Sprintf(" (did you mean %q?)", near)
}

// column returns a column by its name, nil if there is none.
func (t *table) column(name string) *column {
	for i := range t.columns {
		if strings.EqualFold(t.columns[i].name, name) {
			return &t.columns[i]
		}
	}
	return nil
}

func (t *table) columnNames() []string {
	names := make([]string, len(t.columns))
	for i := range t.columns {
		names[i] = t.columns[i].name
	}
	return names
}

// describeKeys finds the keys that the table can be walked by: unique, in an index
// that is in order, of whole columns that are NOT NULL and compare as they sort.
func (t *table) describeKeys(ctx context.Context, c Conn, where string) error {
	var k key
	var why string
	end := func() {
		if k.name != "" && why == "" {
			t.keys = append(t.keys, k)
		} else if k.name != "" {
			t.refused = append(t.refused, "key "+k.name+" "+why)
		}
	}
	err := c.Query(ctx, `SELECT INDEX_NAME, COLUMN_NAME, SUB_PART, COLLATION, INDEX_TYPE FROM information_schema.STATISTICS
		WHERE NON_UNIQUE = 0 AND `+where+" ORDER BY INDEX_NAME, SEQ_IN_INDEX", func(v [][]byte) error {
		if name := string(v[0]); name != k.name {
			end()
			k, why = key{name: name}, ""
		}
		col := t.column(string(v[1]))
		switch {
		case v[1] == nil:
			why = "is of an expression"
		case v[2] != nil:
			why = fmt.Sprintf("has only the beginning of column %q", v[1])
		case string(v[4]) != "BTREE":
			why = "is a " + string(v[4]) + " index, which has no order"
		case col == nil:
			why = fmt.Sprintf("has column %q, which the user may not see", v[1])
		case !col.notNull:
			why = fmt.Sprintf("has column %q, which may be NULL", v[1])
		case classOf(col) == unordered:
			why = fmt.Sprintf("has column %q of type %s, whose values cannot be compared exactly in the order of the index", v[1], strings.ToUpper(col.typ))
		}
		k.columns = append(k.columns, keyColumn{column: col, desc: string(v[3]) == "D"})
		return nil
	})
	end()
	slices.SortStableFunc(t.keys, func(a, b key) int {
		if p := boolInt(b.name == "PRIMARY") - boolInt(a.name == "PRIMARY"); p != 0 {
			return p
		}
		return len(a.columns) - len(b.columns)
	})
	return err
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// chooseKey takes the first key that the server lets itself be forced to: it does
// not with one that was made invisible to the optimizer. With a name it takes the
// key of this name only.
func (t *table) chooseKey(ctx context.Context, c Conn, name string) error {
	for i := range t.keys {
		t.key = &t.keys[i]
		if name != "" && name != t.key.name {
			continue
		}
		err := c.Query(ctx, "SELECT 1"+t.from()+" LIMIT 0", nil)
		switch code := serverCode(err); {
		case err == nil:
			return nil
		case code == codeNoSuchKey:
			t.refused = append(t.refused, "key "+t.key.name+" is invisible to the optimizer")
		default:
			return fmt.Errorf("read %s.%s: %w", t.db, t.name, lasting(err))
		}
	}
	t.key = nil
	if name != "" {
		return fmt.Errorf("%s.%s no longer has the key %s that its walk began with: start a new replay: %w", t.db, t.name, name, pipeline.ErrFatal)
	}
	why := ""
	if len(t.refused) > 0 {
		why = ": " + strings.Join(t.refused, "; ")
	}
	return fmt.Errorf("%s.%s has no primary key, nor another unique key of NOT NULL columns, by which it could be walked in chunks%s; delete all keys that depend on it with -whole, or give it a key: %w",
		t.db, t.name, why, pipeline.ErrFatal)
}

const codeNoSuchKey = 1176
