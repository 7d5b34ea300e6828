package binlog

import (
	"runtime"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/testenv"
)

// lab is one server, one database and a tail on it.
type lab struct {
	testing.TB
	server *testenv.Server
	maria  bool
	db     string
	stop   func()
	*tail
}

// exec runs statements on a connection of their own, in the lab's database.
func (l *lab) exec(statements ...string) {
	l.Helper()
	c := mustConnect(l, rootConfig(l.server))
	mustExec(l, c, append([]string{"USE " + l.db}, statements...)...)
	_ = c.Close()
}

// check runs statements and compares what comes of them.
func (l *lab) check(statements []string, want ...string) {
	l.Helper()
	l.exec(statements...)
	expect(l, l.catchUp(), want...)
}

func (l *lab) stale(table string) string { return "stale " + l.db + "." + table }

// onEach runs a test with the replication driver on MySQL and MariaDB.
func onEach(t *testing.T, rules func(db string) string, fn func(*lab)) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) { inLab(t, f.start(t), f.name == "mariadb", DriverReplication, rules, fn) })
	}
}

func inLab(t testing.TB, s *testenv.Server, maria bool, driver string, rules func(db string) string, fn func(*lab)) {
	l := &lab{TB: t, server: s, maria: maria, db: envDatabase(t, s)}
	l.tail = newTail(t, tailConfig(t, s, driver, rules(l.db)))
	l.stop = l.run()
	fn(l)
	if l.tail.cut > 0 || len(l.errs) > 0 {
		t.Logf("%d transactions were cut off, the source ended %d times", l.cut, len(l.errs))
	}
}

func itemRules(db string) string {
	return rule("item", db+".item", "id", "sku") + rule("swap", db+".item_new", "id", "sku") + rule("part", db+".part", "id")
}

const createItem = "CREATE TABLE item (id INT PRIMARY KEY, pad INT, sku VARCHAR(20))"

func TestDDLMakesTablesStale(t *testing.T) {
	onEach(t, itemRules, func(l *lab) {
		l.check([]string{createItem, "CREATE TABLE other (id INT)", "CREATE TABLE IF NOT EXISTS item (id INT)", "CREATE TABLE item_like LIKE item"})
		l.check([]string{"INSERT INTO item VALUES (1, 2, 'a')"}, `item: - -> (1, "a")`)
		l.check([]string{"TRUNCATE item"}, l.stale("item"))
		l.check([]string{"ALTER TABLE other ADD x INT", "TRUNCATE TABLE other", "CREATE INDEX i ON item (pad)", "ANALYZE TABLE item"})
		l.check([]string{"ALTER TABLE item ADD g GEOMETRY"}, l.stale("item"))
		l.check([]string{"ALTER TABLE `item` DROP g /* as it was */"}, l.stale("item"))
		l.check([]string{"CREATE TABLE item_new LIKE item", "INSERT INTO item_new VALUES (5, 5, 'n')"}, `item_new: - -> (5, "n")`)
		l.check([]string{"RENAME TABLE item TO item_old, item_new TO item"}, l.stale("item"), l.stale("item_new"))
		l.check([]string{"INSERT INTO item VALUES (6, 6, 'm')"}, `item: - -> (6, "m")`)
		l.check([]string{"DROP TABLE item_old, item"}, l.stale("item"))
		l.check([]string{"RENAME TABLE item_like TO item"}, l.stale("item"))
		l.check([]string{"CREATE TEMPORARY TABLE item (id INT)", "INSERT INTO item VALUES (1)", "DROP TEMPORARY TABLE item"})
		l.check([]string{"CREATE TABLE part (id INT PRIMARY KEY) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20))"}, l.stale("part"))
		l.check([]string{"ALTER TABLE part TRUNCATE PARTITION p0"}, l.stale("part"))
		l.exec("CREATE TABLE p_ex (id INT PRIMARY KEY)", "INSERT INTO p_ex VALUES (15)")
		l.check([]string{"ALTER TABLE part EXCHANGE PARTITION p1 WITH TABLE p_ex"}, l.stale("part"))
		l.check([]string{"DROP TABLE item", "CREATE TABLE item AS SELECT 1 AS id, 2 AS pad, 'z' AS sku"}, l.stale("item"), `item: - -> (1, "z")`)
		l.check([]string{"CREATE TRIGGER tr BEFORE INSERT ON item FOR EACH ROW SET NEW.pad = 3", "CREATE VIEW v AS SELECT * FROM item", "DROP VIEW v", "DROP TRIGGER tr"})
		l.check([]string{"DROP DATABASE " + l.db}, l.stale("*"))
	})
}

func TestRowsAreReadAsTheyWereWritten(t *testing.T) {
	onEach(t, itemRules, func(l *lab) {
		l.exec(createItem)
		// The reader is behind: it sees rows from before and after each change.
		hold := make(chan struct{})
		l.hold(hold)
		l.exec("INSERT INTO item VALUES (1, 2, 'a')",
			"ALTER TABLE item ADD COLUMN first VARCHAR(9) DEFAULT 'f' FIRST", "INSERT INTO item VALUES ('x', 2, 2, 'b')",
			"ALTER TABLE item MODIFY sku VARCHAR(20) AFTER first, CHANGE pad pad2 INT", "INSERT INTO item VALUES ('x', 'c', 3, 2)",
			"ALTER TABLE item RENAME COLUMN sku TO code", "UPDATE item SET code = 'd' WHERE id = 3")
		close(hold)
		expect(l, l.catchUp(), `item: - -> (1, "a")`, l.stale("item"), `item: - -> (2, "b")`, l.stale("item"), `item: - -> (3, "c")`,
			l.stale("item"), `item: (3, ?) -> (3, ?)`)
	})
}

// hold keeps the tail from taking the next batch until the channel is closed.
func (l *lab) hold(until <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = until
}

func TestStatementsAndImages(t *testing.T) {
	onEach(t, itemRules, func(l *lab) {
		l.exec(createItem, "INSERT INTO item VALUES (1, 2, 'a'), (2, 2, 'b')")
		l.catchUp()
		l.check([]string{"SET SESSION binlog_row_image = 'MINIMAL'", "UPDATE item SET pad = 9 WHERE id = 1"}, `item: (1, ?) -> (?, ?)`)
		l.check([]string{"SET SESSION binlog_format = 'STATEMENT'", "UPDATE item SET sku = 'q' WHERE id = 1"}, l.stale("item"), l.stale("*"))
		l.check([]string{"CREATE TABLE m (id INT) ENGINE=MyISAM", "ALTER TABLE item ENGINE=MyISAM"}, l.stale("item"))
		l.check([]string{"INSERT INTO item VALUES (7, 7, 'g')"}, `item: - -> (7, "g")`)
		l.check([]string{"BEGIN", "UPDATE item SET sku = 'h' WHERE id = 7", "ROLLBACK"}, `item: (7, "g") -> (7, "h")`)
		l.check([]string{"DELETE FROM item WHERE id = 7"}, `item: (7, "h") -> -`)
	})
}

func TestMetadataTurnedOff(t *testing.T) {
	onEach(t, itemRules, func(l *lab) {
		l.exec(createItem)
		l.catchUp()
		l.exec("SET GLOBAL binlog_row_metadata = 'MINIMAL'")
		l.exec("INSERT INTO item VALUES (1, 2, 'a'), (2, 3, 'b')")
		got := l.catchUp()
		l.exec("SET GLOBAL binlog_row_metadata = 'FULL'")
		expect(l, got, l.stale("item"))
		if !strings.Contains(got[0].reason, "binlog_row_metadata = 'FULL'") {
			l.Errorf("the reason does not say what to do: %s", got[0].reason)
		}
		l.check([]string{"INSERT INTO item VALUES (3, 2, 'c')"}, `item: - -> (3, "c")`)
	})
}

func TestLargeTransactionComesInPieces(t *testing.T) {
	onEach(t, itemRules, func(l *lab) {
		const n = 100_000
		peak := l.watchHeap()
		l.exec(createItem, "CREATE TABLE d (i INT)", "INSERT INTO d VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
			"INSERT INTO item SELECT a.i + 10*b.i + 100*c.i + 1000*e.i + 10000*f.i, 0, 'sku' FROM d a, d b, d c, d e, d f")
		got := l.catchUp()
		flat(l, peak())
		if len(got) != 1 || got[0].rows != n || got[0].largest > batchRows || got[0].batches < n/batchRows {
			l.Errorf("%d transactions, first: %d rows in %d batches, largest %d", len(got), got[0].rows, got[0].batches, got[0].largest)
		}
	})
}

// watchHeap measures the heap's size while batches come. The result is how much
// it grew at most.
func (l *lab) watchHeap() (growth func() uint64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	base, n := m.HeapAlloc, 0
	var peak uint64
	l.onBatch(func() {
		if n++; n%10 == 0 {
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	})
	return func() uint64 {
		l.onBatch(nil)
		return peak - min(base, peak)
	}
}

// flat: go-mysql takes some hundred megabytes for 100,000 rows in a compressed
// transaction.
func flat(t testing.TB, growth uint64) {
	t.Helper()
	if growth > 48<<20 {
		t.Errorf("the heap grew by %d MB while one transaction was read", growth>>20)
	}
}

func TestTaggedGTIDs(t *testing.T) {
	s := flavors[0].start(t)
	inLab(t, s, false, DriverReplication, itemRules, func(l *lab) {
		l.exec(createItem)
		l.exec("SET gtid_next = 'AUTOMATIC:red'", "INSERT INTO item VALUES (1, 1, 'a')", "SET gtid_next = 'AUTOMATIC'", "INSERT INTO item VALUES (2, 1, 'b')")
		expect(l, l.catchUp(), `item: - -> (1, "a")`, `item: - -> (2, "b")`)
		if !strings.Contains(string(l.position()), ":red:1") {
			l.Errorf("the tag is not in the position %s", l.position())
		}
		l.killDump()
		l.exec("INSERT INTO item VALUES (3, 1, 'c')", "SET gtid_next = 'AUTOMATIC:red'", "INSERT INTO item VALUES (4, 1, 'd')")
		expect(l, l.catchUp(), `item: - -> (3, "c")`, `item: - -> (4, "d")`)
	})
}

// killDump breaks the stream from the server's side.
func (l *lab) killDump() {
	l.Helper()
	c := mustConnect(l, rootConfig(l.server))
	res, err := c.Execute("SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'")
	if err != nil {
		l.Fatal(err)
	}
	rows, err := rowsOf(res)
	if err != nil || len(rows) == 0 {
		l.Fatalf("no dump thread to kill: %v", err)
	}
	for _, r := range rows {
		_, _ = c.Execute("KILL " + r[0]) // it may be gone by itself
	}
}

func TestCutTransactionComesAgain(t *testing.T) {
	onEach(t, itemRules, func(l *lab) {
		// More than the sockets' buffers hold.
		l.exec("CREATE TABLE item (id INT PRIMARY KEY, pad VARCHAR(500), sku VARCHAR(20))", "CREATE TABLE d (i INT)", "INSERT INTO d VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
		l.catchUp()
		n := 0
		l.onBatch(func() {
			if n++; n == 20 {
				l.killDump()
			}
		})
		l.exec("INSERT INTO item SELECT a.i + 10*b.i + 100*c.i + 1000*e.i + 10000*f.i, REPEAT('p', 300), 's' FROM d a, d b, d c, d e, d f",
			"INSERT INTO item VALUES (-1, 0, 'after')")
		got := l.catchUp()
		if len(got) != 2 || got[0].rows != 100_000 || got[1].rows != 1 {
			l.Fatalf("%d transactions, the first with %d rows", len(got), got[0].rows)
		}
		if l.cut == 0 {
			l.Error("the transaction was not cut off: the test shows nothing")
		}
	})
}

func TestCompressedTransactions(t *testing.T) {
	s := flavors[0].start(t)
	inLab(t, s, false, DriverReplication, itemRules, func(l *lab) {
		l.exec(createItem, "CREATE TABLE d (i INT)", "INSERT INTO d VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
		l.catchUp()
		l.check([]string{"SET binlog_transaction_compression = ON", "BEGIN", "INSERT INTO item VALUES (1, 2, REPEAT('a', 20))", "DELETE FROM item", "COMMIT"},
			`item: - -> (1, "aaaaaaaaaaaaaaaaaaaa")`, `item: (1, "aaaaaaaaaaaaaaaaaaaa") -> -`)
		peak := l.watchHeap()
		l.exec("SET binlog_transaction_compression = ON", "INSERT INTO item SELECT a.i + 10*b.i + 100*c.i + 1000*e.i + 10000*f.i, 0, REPEAT('s', 20) FROM d a, d b, d c, d e, d f")
		got := l.catchUp()
		flat(l, peak())
		if len(got) != 1 || got[0].rows != 100_000 || got[0].largest > batchRows {
			l.Errorf("%d transactions, the first with %d rows, largest batch %d", len(got), got[0].rows, got[0].largest)
		}
	})
}

func TestMariaDBCompressedEvents(t *testing.T) {
	s := flavors[1].start(t)
	inLab(t, s, true, DriverReplication, itemRules, func(l *lab) {
		l.exec(createItem, "SET GLOBAL log_bin_compress = ON")
		l.catchUp()
		long := strings.Repeat("a", 20)
		l.exec("INSERT INTO item VALUES " + strings.TrimSuffix(strings.Repeat("(0, 2, '"+long+"'),", 1), ","))
		l.exec("UPDATE item SET id = 5, pad = 1", "DELETE FROM item", "ALTER TABLE item ADD COLUMN "+strings.Repeat("l", 60)+" INT DEFAULT "+strings.Repeat("1", 9)+" COMMENT '"+strings.Repeat("c", 500)+"'", "SET GLOBAL log_bin_compress = OFF")
		expect(l, l.catchUp(), `item: - -> (0, "`+long+`")`, `item: (0, "`+long+`") -> (5, "`+long+`")`, `item: (5, "`+long+`") -> -`, l.stale("item"))
	})
}

func TestPartialJSON(t *testing.T) {
	s := flavors[0].start(t)
	inLab(t, s, false, DriverReplication, itemRules, func(l *lab) {
		l.exec("CREATE TABLE item (id INT PRIMARY KEY, doc JSON, pad INT, doc2 JSON, sku VARCHAR(20))",
			`INSERT INTO item VALUES (1, JSON_OBJECT('a', REPEAT('x', 500), 'b', 1), 5, '[1]', 'k')`)
		l.catchUp()
		l.check([]string{"SET binlog_row_value_options = 'PARTIAL_JSON'", "UPDATE item SET doc = JSON_SET(doc, '$.b', 2), sku = 'l'", "UPDATE item SET doc2 = '[2, 3]'"},
			`item: (1, "k") -> (1, "l")`, `item: (1, "l") -> (1, "l")`)
	})
}
