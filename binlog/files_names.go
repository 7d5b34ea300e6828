package binlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// lookUp makes the plan of a table whose columns the binlog does not name.
func (ps *plans) lookUp(p *plan) error {
	if p.table == nil || len(p.wanted) == 0 {
		return nil
	}
	t, err := parseTableMap(p.body, ps.mariadb)
	if err != nil || t.names != nil {
		return nil // in the first case, the plan says why
	}
	if err := ps.names(p, t); err != nil {
		return err
	}
	if t.names != nil {
		p.stale = p.layout(t, ps.mariadb)
	}
	return nil
}

// columnNames asks a server for what binlog files without
// binlog_row_metadata=FULL lack. The server tells what a table is now: if that
// has other columns than the rows in the file, the table stays stale as a whole.
// Columns of the same types that were renamed or swapped since are not noticed,
// unless the statement that did it is in the range itself.
type columnNames struct {
	cfg  Config // of the server; without Addr there is none
	told bool
}

// fill completes t, or sets why the table is stale in p. An error says that the
// names cannot be had at all.
func (c *columnNames) fill(ctx context.Context, p *plan, t *tableMap, maria bool) error {
	if c.cfg.Addr == "" {
		return fmt.Errorf("%w: the binlog files do not name the columns of %s.%s (binlog_row_metadata was not FULL), and there is no server to ask: "+
			"configure the source, or replay the table", pipeline.ErrFatal, p.db, p.name)
	}
	columns, err := c.ask(ctx, p, maria)
	if err != nil {
		return fmt.Errorf("the binlog files do not name the columns of %s.%s; ask %s for them: %w", p.db, p.name, c.cfg.Addr, err)
	}
	if why := t.adopt(columns); why != "" {
		p.stale = "the binlog does not name the columns, and the server cannot tell: " + why
		return nil
	}
	if !c.told {
		c.told = true
		c.cfg.logger().Warn("the binlog files do not name the columns: they are taken from the server as they are now", "table", p.db+"."+p.name)
	}
	return nil
}

// column as the server describes it.
type serverColumn struct {
	name, dataType, columnType string
	collation                  uint64 // 0 if it has none
}

func (c *columnNames) ask(ctx context.Context, p *plan, maria bool) ([]serverColumn, error) {
	s, err := openSession(ctx, c.cfg, readTimeout)
	if err != nil {
		return nil, err
	}
	defer s.close()
	var rows [][]string
	query := func(collations string) ([][]string, error) {
		return s.query(ctx, "SELECT c.COLUMN_NAME, c.DATA_TYPE, c.COLUMN_TYPE, COALESCE(k.ID, 0) FROM information_schema.COLUMNS c LEFT JOIN "+collations+
			" = c.COLLATION_NAME WHERE c.TABLE_SCHEMA = "+quote(p.db)+" AND c.TABLE_NAME = "+quote(p.name)+" ORDER BY c.ORDINAL_POSITION")
	}
	const plain = "information_schema.COLLATIONS k ON k.COLLATION_NAME"
	if !maria {
		rows, err = query(plain)
	} else if rows, err = query("information_schema.COLLATION_CHARACTER_SET_APPLICABILITY k ON k.FULL_COLLATION_NAME"); serverCode(err) == mysql.ER_BAD_FIELD_ERROR {
		rows, err = query(plain) // before 10.10; newer ones list a collation once for each character set
	}
	if err != nil {
		return nil, err
	}
	columns := make([]serverColumn, len(rows))
	for i, r := range rows {
		id, _ := strconv.ParseUint(r[3], 10, 64) // 0 is "not known"
		columns[i] = serverColumn{name: r[0], dataType: strings.ToLower(r[1]), columnType: strings.ToLower(r[2]), collation: id}
	}
	return columns, nil
}

// adopt takes names, and what else is missing, from the server. It returns why
// the columns are not the same ones.
func (t *tableMap) adopt(columns []serverColumn) string {
	if len(columns) != len(t.types) {
		return fmt.Sprintf("the table has %d columns, and its rows %d", len(columns), len(t.types))
	}
	unsigned, collation := make([]bool, len(columns)), make([]uint64, len(columns))
	names := make([][]byte, len(columns))
	for i, c := range columns {
		if !strings.Contains(" "+typesOf(t.realType(i))+" ", " "+c.dataType+" ") {
			return fmt.Sprintf("column %q is of type %s, and another one in the rows", c.name, c.dataType)
		}
		names[i] = []byte(c.name)
		unsigned[i] = strings.Contains(c.columnType, "unsigned") || strings.Contains(c.columnType, "zerofill")
		collation[i] = c.collation
		if c.collation == 0 && strings.Contains(" binary varbinary tinyblob blob mediumblob longblob ", " "+c.dataType+" ") {
			collation[i] = collationBinary
		}
	}
	t.names = names
	if t.unsigned == nil {
		t.unsigned = unsigned
	}
	if t.collation == nil {
		t.collation = collation
	}
	return ""
}

// typesOf lists what information_schema may call a type of the binlog.
func typesOf(typ byte) string {
	switch typ {
	case mysql.MYSQL_TYPE_TINY:
		return "tinyint"
	case mysql.MYSQL_TYPE_SHORT:
		return "smallint"
	case mysql.MYSQL_TYPE_INT24:
		return "mediumint"
	case mysql.MYSQL_TYPE_LONG:
		return "int"
	case mysql.MYSQL_TYPE_LONGLONG:
		return "bigint"
	case mysql.MYSQL_TYPE_YEAR:
		return "year"
	case mysql.MYSQL_TYPE_FLOAT:
		return "float"
	case mysql.MYSQL_TYPE_DOUBLE:
		return "double"
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		return "decimal"
	case mysql.MYSQL_TYPE_BIT:
		return "bit"
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE:
		return "date"
	case mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_TIME2:
		return "time"
	case mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_DATETIME2:
		return "datetime"
	case mysql.MYSQL_TYPE_TIMESTAMP, mysql.MYSQL_TYPE_TIMESTAMP2:
		return "timestamp"
	case mysql.MYSQL_TYPE_ENUM:
		return "enum"
	case mysql.MYSQL_TYPE_SET:
		return "set"
	case mysql.MYSQL_TYPE_JSON:
		return "json"
	case mysql.MYSQL_TYPE_GEOMETRY:
		return "geometry point linestring polygon multipoint multilinestring multipolygon geometrycollection geomcollection"
	case mysql.MYSQL_TYPE_VECTOR:
		return "vector"
	case mysql.MYSQL_TYPE_STRING:
		return "char binary uuid inet6 inet4"
	case mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, typeVarcharCompressed:
		return "varchar varbinary"
	case mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_TINY_BLOB, mysql.MYSQL_TYPE_MEDIUM_BLOB, mysql.MYSQL_TYPE_LONG_BLOB, typeBlobCompressed:
		return "tinytext text mediumtext longtext tinyblob blob mediumblob longblob json vector"
	}
	return ""
}
