package binlog

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/canal"
	canalschema "github.com/go-mysql-org/go-mysql/schema"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
)

// onEachCanal runs a test with the canal driver, on servers with the metadata
// that servers have which cannot offer more.
func onEachCanal(t *testing.T, fn func(*lab)) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			s := f.start(t, testenv.MySQLOptions{Fast: true, Args: []string{"--binlog-row-metadata=MINIMAL"}})
			c := mustConnect(t, rootConfig(s))
			mustExec(t, c, "CREATE DATABASE first", "CREATE TABLE first.t (id INT)") // so that there is a GTID
			inLab(t, s, f.name == "mariadb", DriverCanal, itemRules, fn)
		})
	}
}

func TestCanal(t *testing.T) {
	onEachCanal(t, func(l *lab) {
		l.check([]string{createItem, "INSERT INTO item VALUES (1, 2, 'a'), (2, NULL, NULL)",
			"UPDATE item SET id = 3 WHERE id = 2", "BEGIN", "DELETE FROM item WHERE id = 3", "CREATE TABLE IF NOT EXISTS first.t (id INT)", "ROLLBACK",
			"BEGIN", "INSERT INTO first.t VALUES (1)", "DELETE FROM item WHERE id = 1", "COMMIT"},
			`item: - -> (1, "a")`, `item: - -> (2, NULL)`, `item: (2, NULL) -> (3, NULL)`, `item: (3, NULL) -> -`, `item: (1, "a") -> -`)
		l.check([]string{"TRUNCATE item"}, l.stale("item"))
		l.check([]string{"ALTER TABLE item ADD g GEOMETRY FIRST"}, l.stale("item")) // canal cannot parse it
		l.check([]string{"INSERT INTO item VALUES (NULL, 5, 5, 'g')"}, `item: - -> (5, "g")`)
		l.check([]string{"ALTER TABLE item DROP g", "INSERT INTO item VALUES (6, 5, 'h')"}, l.stale("item"), `item: - -> (6, "h")`)
		l.check([]string{"CREATE TABLE item_new LIKE item", "INSERT INTO item_new VALUES (5, 5, 'n')"}, `item_new: - -> (5, "n")`)
		l.check([]string{"RENAME TABLE item TO item_old, item_new TO item"}, l.stale("item"), l.stale("item_new"))
		l.check([]string{"INSERT INTO item VALUES (7, 5, 'i')"}, `item: - -> (7, "i")`)
		l.check([]string{"CREATE TABLE part (id INT PRIMARY KEY) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20))",
			"CREATE TABLE p_ex (id INT PRIMARY KEY)"}, l.stale("part"))
		l.check([]string{"ALTER TABLE part EXCHANGE PARTITION p1 WITH TABLE p_ex"}, l.stale("part"))
		l.check([]string{"GRANT SELECT ON *.* TO 'root'@'localhost'", "ANALYZE TABLE item", "CREATE VIEW v AS SELECT 1", "DROP VIEW v", "FLUSH TABLES"})
		l.check([]string{"SET SESSION binlog_format = 'STATEMENT'", "UPDATE item SET sku = 'q' WHERE id = 7"}, l.stale("item"), l.stale("*"))
		l.check([]string{"DROP TABLE item_old, item"}, l.stale("item"))
		l.check([]string{createItem + " ENGINE=MyISAM", "INSERT INTO item VALUES (8, 5, 'm')"}, `item: - -> (8, "m")`)
		l.check([]string{"DROP TABLE item"}, l.stale("item"))
		l.check([]string{"DROP DATABASE " + l.db}, l.stale("*"))
	})
}

// Names are quoted once, and only in scopes: rules, published rows and canal
// itself know the table by its real name.
func TestCanalNamesOfGlobCharacters(t *testing.T) {
	const db, name = `sh\op`, `it*m?`
	// In a rule ? is one character: it matches the name as it is, not a quoted one.
	schema := parseSchema(t, rule("item", "sh?op.it?m?", "id"))
	var got []pipeline.Batch
	var err error
	c := newCanalHandler(t.Context(), func(e error) { err = e }, &history{cfg: Config{Schema: schema}},
		func(_ context.Context, b pipeline.Batch) error {
			b.Tables = slices.Clone(b.Tables)
			got = append(got, b)
			return nil
		})
	from := &canalschema.Table{Schema: db, Name: name, Columns: []canalschema.TableColumn{{Name: "id", RawType: "int"}}}
	for _, row := range [][]any{{int32(7)}, {int32(7), "a column too many"}} {
		if e := c.asm.begin(c.ctx, pipeline.Txn{GTID: "u:1"}, false); e != nil {
			t.Fatal(e)
		}
		if e := c.OnRow(&canal.RowsEvent{Table: from, Action: canal.InsertAction, Rows: [][]any{row}}); e != nil {
			t.Fatal(e)
		}
		if e := c.asm.end(c.ctx); e != nil {
			t.Fatal(e)
		}
	}
	if err != nil || len(got) != 2 {
		t.Fatalf("%d batches, %v", len(got), err)
	}
	if rows := got[0].Tables; len(rows) != 1 || rows[0].DB != db || rows[0].Table != name {
		t.Errorf("published %+v", rows)
	}
	want := []pipeline.Scope{{DB: `sh\\op`, Table: `it\*m\?`}}
	if !slices.Equal(got[1].Invalidate, want) || !slices.Equal(c.touched, want) {
		t.Errorf("stale is %q, touched is %q, want %q", got[1].Invalidate, c.touched, want)
	}
	if _, ok := c.tables[pipeline.Scope{DB: db, Table: name}]; !ok || len(c.tables) != 1 {
		t.Errorf("canal would be told to forget another table: %v", c.tables)
	}
}

func TestCanalCutAndLarge(t *testing.T) {
	onEachCanal(t, func(l *lab) {
		l.exec("CREATE TABLE item (id INT PRIMARY KEY, pad VARCHAR(500), sku VARCHAR(20))", "CREATE TABLE d (i INT)", "INSERT INTO d VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
		l.catchUp()
		n := 0
		l.onBatch(func() {
			if n++; n == 20 {
				l.killDump()
			}
		})
		l.exec("INSERT INTO item SELECT a.i + 10*b.i + 100*c.i + 1000*e.i + 10000*f.i, REPEAT('p', 300), 's' FROM d a, d b, d c, d e, d f")
		got := l.catchUp()
		if len(got) != 1 || got[0].rows != 100_000 || got[0].largest > batchRows {
			l.Fatalf("%d transactions, the first with %d rows", len(got), got[0].rows)
		}
		if l.cut == 0 {
			l.Error("the transaction was not cut off: the test shows nothing")
		}
	})
}

// TestCanalHostileEvents: what canal refuses or hides must not stop the stream,
// and must make something stale.
func TestCanalHostileEvents(t *testing.T) {
	s := flavors[0].start(t, testenv.MySQLOptions{Fast: true})
	mustExec(t, mustConnect(t, rootConfig(s)), "CREATE DATABASE first")
	inLab(t, s, false, DriverCanal, itemRules, func(l *lab) {
		l.exec("CREATE TABLE item (id INT PRIMARY KEY, doc JSON, sku VARCHAR(20))", `INSERT INTO item VALUES (1, JSON_OBJECT('a', REPEAT('x', 500), 'b', 1), 'k')`)
		l.catchUp()
		l.check([]string{"SET binlog_row_value_options = 'PARTIAL_JSON'", "UPDATE item SET doc = JSON_SET(doc, '$.b', 2)"}, "stale *.*")
		l.check([]string{"SET gtid_next = 'AUTOMATIC:red'", "UPDATE item SET sku = 'l'", "SET gtid_next = 'AUTOMATIC'", "UPDATE item SET sku = 'm'"},
			l.stale("item"), `item: (1, "l") -> (1, "m")`)
		if !strings.Contains(string(l.position()), ":red:1") {
			l.Errorf("the tag is not in the position %s", l.position())
		}
		l.check([]string{"SET binlog_row_image = 'MINIMAL'", "UPDATE item SET sku = 'n'"}, l.stale("item"))
		l.check([]string{"SET binlog_transaction_compression = ON", "UPDATE item SET sku = 'o'"}, `item: (1, "n") -> (1, "o")`)
		// Rows of a table that is gone when they are read.
		hold := make(chan struct{})
		l.hold(hold)
		l.exec("CREATE TABLE part (id INT PRIMARY KEY)", "INSERT INTO part VALUES (1)", "DROP TABLE part")
		close(hold)
		expect(l, l.catchUp(), l.stale("part"), l.stale("part"))
	})
}

// TestCanalTypes compares what the canal driver makes of each type with what
// the server selects; where it is not certain it must say so.
func TestCanalTypes(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			s := f.start(t, testenv.MySQLOptions{Fast: true, Args: []string{"--binlog-row-metadata=MINIMAL"}})
			c := mustConnect(t, rootConfig(s))
			mustExec(t, c, "CREATE DATABASE first", "SET time_zone = '+00:00'", "SET sql_mode = ''")
			for i, tc := range typeCases {
				if tc.sql == "" || tc.only != "" {
					continue
				}
				table := fmt.Sprintf("first.one%d", i)
				mustExec(t, c, "CREATE TABLE "+table+" (id INT PRIMARY KEY, v "+tc.ddl+") CHARACTER SET utf8mb4")
				w := newTail(t, tailConfig(t, s, DriverCanal, rule("one", table, "id", "v")))
				for n, v := range append(slices.Clone(tc.values), "NULL") {
					mustExec(t, c, fmt.Sprintf("INSERT INTO %s VALUES (%d, %s)", table, n, v))
				}
				stop := w.run()
				compareOne(t, w, c, tc, table)
				stop()
			}
		})
	}
}
