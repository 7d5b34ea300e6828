package binlog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/doubletap-cdc/doubletap/keys"
)

// TestEveryTypeAgainstServer compares every column of every row with what the
// server selects, and with go-mysql's own decoder where that has the same idea
// of the type.
func TestEveryTypeAgainstServer(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			s := f.start(t)
			db := envDatabase(t, s)
			var defs, wanted, selects []string
			var cases []typeCase
			for _, c := range typeCases {
				if c.only != "" && c.only != f.name {
					continue
				}
				cases = append(cases, c)
				defs = append(defs, c.name+" "+c.ddl)
				if c.sql != "" {
					wanted = append(wanted, c.name)
					selects = append(selects, fmt.Sprintf(c.sql, c.name))
				}
			}
			c := mustConnect(t, rootConfig(s))
			mustExec(t, c, "USE "+db, "SET time_zone = '+00:00'", "SET sql_mode = ''",
				"CREATE TABLE every (id INT PRIMARY KEY, "+strings.Join(defs, ", ")+") CHARACTER SET utf8mb4")
			cfg := tailConfig(t, s, DriverReplication, rule("every", db+".every", append([]string{"id"}, wanted...)...))
			w := newTail(t, cfg)
			for id, values := range everyValue(cases) {
				mustExec(t, c, fmt.Sprintf("INSERT INTO every VALUES (%d, %s)", id, strings.Join(values, ", ")))
			}
			compareDecoders(t, w)
			w.run()
			w.catchUpInto(t, c, "SELECT CONCAT(id), "+strings.Join(selects, ", ")+" FROM every ORDER BY id", append([]string{"id"}, wanted...))
		})
	}
}

// everyValue makes rows so that each value of each case comes, the rest NULL or
// chosen with a fixed seed.
func everyValue(cases []typeCase) (rows [][]string) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 60 {
		row := make([]string, len(cases))
		for i, c := range cases {
			switch {
			case n < len(c.values):
				row[i] = c.values[n]
			case rng.IntN(3) == 0:
				row[i] = "NULL"
			default:
				row[i] = c.values[rng.IntN(len(c.values))]
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// catchUpInto compares the rows that come with what the server selects.
func (w *tail) catchUpInto(t *testing.T, c *client.Conn, query string, names []string) {
	res, err := c.Execute(query)
	if err != nil {
		t.Fatal(err)
	}
	txns := w.catchUp()
	if len(txns) != res.RowNumber() {
		t.Fatalf("%d transactions for %d rows: %v", len(txns), res.RowNumber(), describe(txns)[0])
	}
	for i, x := range txns {
		if len(x.after) != len(names) {
			t.Errorf("row %d: %d values, stale %v: %s", i, len(x.after), x.scopes, x.reason)
			continue
		}
		vals := make([]keys.Value, len(names))
		for j := range names {
			if null, _ := res.IsNull(i, j); null {
				vals[j] = keys.Value{Kind: keys.Null}
				continue
			}
			text, err := res.GetString(i, j)
			if err != nil {
				t.Fatal(err)
			}
			vals[j] = keys.Value{Kind: x.after[j].Kind, Text: text}
			if x.after[j] != vals[j] {
				t.Errorf("row %d, %s: decoded %s, the server has %s", i, names[j], imageText(x.after[j:j+1]), imageText(vals[j:j+1]))
			}
		}
		if len(x.scopes) > 0 {
			t.Errorf("row %d: %d values, stale %v: %s", i, len(x.after), x.scopes, x.reason)
		}
	}
}

// compareOne compares one column of one type; a driver may be in doubt about it.
func compareOne(t *testing.T, w *tail, c *client.Conn, tc typeCase, table string) {
	res, err := c.Execute("SELECT " + fmt.Sprintf(tc.sql, "v") + " FROM " + table + " ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	txns := w.catchUp()
	if len(txns) != res.RowNumber() {
		t.Fatalf("%s: %d transactions for %d rows", tc.ddl, len(txns), res.RowNumber())
	}
	for i, x := range txns {
		if len(x.scopes) > 0 {
			if i == 0 {
				t.Logf("%.60s: in doubt: %s", tc.ddl, x.reason)
			}
			continue
		}
		want := "NULL"
		if null, _ := res.IsNull(i, 0); !null {
			text, err := res.GetString(i, 0)
			if err != nil {
				t.Fatal(err)
			}
			want = text
		}
		got := x.after[1].Text
		if x.after[1].Kind == keys.Null {
			got = "NULL"
		}
		if got != want {
			t.Errorf("%.60s: decoded %q, the server has %q", tc.ddl, got, want)
		}
	}
}

// compareDecoders reads from the tail's position with go-mysql's own decoder
// and compares, value by value.
func compareDecoders(t *testing.T, w *tail) {
	pos, err := parsePosition(w.pos)
	if err != nil {
		t.Fatal(err)
	}
	set, err := parseSet(pos.Flavor, pos.Set)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := w.source.(*replicationSource)
	cfg := r.syncerConfig(ctx, &hangUp{}, nil)
	cfg.RawModeEnabled, cfg.SynchronousEventHandler, cfg.EventCacheCount = false, nil, 1000
	cfg.ServerID = 3_000_000_000 + nextServerID.Add(1)
	syncer := replication.NewBinlogSyncer(cfg)
	defer syncer.Close()
	stream, err := syncer.StartSyncGTID(set.library())
	if err != nil {
		t.Fatal(err)
	}
	ps := plans{schema: w.cfg.Schema, mariadb: r.srv.MariaDB()}
	compared := 0
	for compared < 60 {
		e, err := stream.GetEvent(ctx)
		if err != nil {
			// go-mysql cannot read MariaDB's compressed columns.
			t.Logf("go-mysql: %.120s", err)
			return
		}
		body := e.RawData[replication.EventHeaderSize:]
		switch ev := e.Event.(type) {
		case *replication.TableMapEvent:
			if err := ps.tableMap(body); err != nil {
				t.Fatal(err)
			}
		case *replication.RowsEvent:
			compared += compareRows(t, e.Header.EventType, body, ev, &ps)
		}
	}
}

func compareRows(t *testing.T, typ replication.EventType, body []byte, theirs *replication.RowsEvent, ps *plans) int {
	e, err := parseRowsEvent(rowsKinds[typ], body, ps)
	if err != nil || e.plan == nil || e.plan.table == nil {
		return 0
	}
	for _, row := range theirs.Rows {
		vals := make([]value, len(e.plan.wanted))
		rest, buf, doubt, err := e.plan.image(e.rows, e.bitmap[0], false, false, vals, nil)
		if err != nil || doubt != "" {
			t.Fatalf("%v %s", err, doubt)
		}
		e.rows = rest
		for i := range e.plan.cols {
			c := &e.plan.cols[i]
			if c.want < 0 {
				continue
			}
			mine := string(buf[vals[c.want].from:vals[c.want].to])
			if want, ok := theirText(c, row[i]); ok && want != mine {
				t.Errorf("%s: %q, go-mysql has %q (%T)", e.plan.wanted[c.want], mine, want, row[i])
			}
		}
	}
	return len(theirs.Rows)
}

// theirText is go-mysql's value as canonical text, where it can be had.
func theirText(c *column, v any) (string, bool) {
	switch c.typ {
	case mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET, mysql.MYSQL_TYPE_TIME2, mysql.MYSQL_TYPE_TIMESTAMP2:
		return "", false // numbers; without fraction; in local time
	}
	switch v := v.(type) {
	case nil:
		return "", true
	case string:
		if c.binary || c.typ == mysql.MYSQL_TYPE_STRING || c.typ == mysql.MYSQL_TYPE_VARCHAR {
			return v, !c.binary && isASCII(v) && c.prefix == 1 && !strings.Contains(v, "\x00")
		}
		return v, true
	case int64:
		if c.typ == mysql.MYSQL_TYPE_BIT {
			return strconv.FormatUint(uint64(v), 10), true
		}
	case []byte:
		return "", false
	}
	return fmt.Sprint(v), true
}

func isASCII(s string) bool {
	_, ok := asciiText(nil, []byte(s))
	return ok
}
