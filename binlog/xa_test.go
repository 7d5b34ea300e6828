package binlog

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// onEachDriver runs a test with both drivers on MySQL and MariaDB.
func onEachDriver(t *testing.T, fn func(*lab)) {
	t.Run("replication", func(t *testing.T) { onEach(t, itemRules, fn) })
	t.Run("canal", func(t *testing.T) { onEachCanal(t, fn) })
}

func xaRows(xid string, ids ...int) []string {
	all := []string{"XA START " + xid}
	for _, id := range ids {
		all = append(all, fmt.Sprintf("INSERT INTO item VALUES (%d, 1, 'x')", id))
	}
	return append(all, "XA END "+xid)
}

// TestXA: what a PREPARE brings is marked as not committed, under its xid; what
// ends it says which one; a COMMIT in one phase is a transaction like others.
func TestXA(t *testing.T) {
	onEachDriver(t, func(l *lab) {
		l.exec(createItem, "CREATE TABLE other (id INT)")
		l.catchUp()
		l.check(append(xaRows("'a','b',7", 1, 2), "XA PREPARE 'a','b',7"), `held item: - -> (1, "x")`, `held item: - -> (2, "x")`, "prepare 7:61:62")
		l.check([]string{"INSERT INTO item VALUES (10, 1, 'between')"}, `item: - -> (10, "between")`)
		l.check([]string{"XA COMMIT 'a','b',7"}, "commit 7:61:62")
		l.check(append(xaRows("'r'", 3), "XA PREPARE 'r'"), `held item: - -> (3, "x")`, "prepare 1:72:")
		l.check([]string{"XA ROLLBACK 'r'"}, "rollback 1:72:")
		l.check(append(xaRows("'one'", 4), "XA COMMIT 'one' ONE PHASE"), onePhase(l, `item: - -> (4, "x")`, "1:6f6e65:")...)
		l.check([]string{"INSERT INTO item VALUES (11, 1, 'after')"}, `item: - -> (11, "after")`)
		l.check(append(xaRows("X'00ff27',''", 5), "XA PREPARE X'00ff27',''"), `held item: - -> (5, "x")`, "prepare 1:00ff27:")
		l.check([]string{"XA START 'n'", "INSERT INTO other VALUES (1)", "XA END 'n'", "XA PREPARE 'n'"}, "prepare 1:6e:")
		l.check([]string{"XA COMMIT X'00ff27',''", "XA COMMIT 'n'"}, "commit 1:00ff27:", "commit 1:6e:")
	})
}

// onePhase is how a COMMIT in one phase comes: MariaDB writes it like any other.
func onePhase(l *lab, row, xid string) []string {
	if l.maria {
		return []string{row}
	}
	return []string{row, "one phase " + xid}
}

// TestXAFromAnywhere: what ends a transaction is understood by one who never
// saw its PREPARE, with no memory of its own.
func TestXAFromAnywhere(t *testing.T) {
	onEachDriver(t, func(l *lab) {
		l.exec(createItem)
		l.exec(append(xaRows("'a'", 1), "XA PREPARE 'a'")...)
		l.exec(append(xaRows("'b'", 2), "XA PREPARE 'b'")...)
		l.catchUp()
		fresh := newTail(l, l.cfg)
		fresh.run()
		l.exec("XA COMMIT 'a'", "XA ROLLBACK 'b'")
		expect(l, fresh.catchUp(), "commit 1:61:", "rollback 1:62:")
	})
}

// TestXALarge: one that does not fit a batch comes in pieces, all of them marked.
func TestXALarge(t *testing.T) {
	onEachDriver(t, func(l *lab) {
		l.exec(createItem, "CREATE TABLE d (i INT)", "INSERT INTO d VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
		l.catchUp()
		for _, c := range []struct {
			end  string
			want pipeline.XAStep
		}{{"XA PREPARE 'a'", pipeline.XAPrepare}, {"XA COMMIT 'a' ONE PHASE", pipeline.XAOnePhase}} {
			l.exec("XA START 'a'", "INSERT INTO item SELECT a.i + 10*b.i + 100*c.i + 1000*e.i, 0, 's' FROM d a, d b, d c, d e", "XA END 'a'", c.end)
			got := l.catchUp()
			if c.want == pipeline.XAOnePhase && l.maria {
				c.want = "" // it is written like any other transaction
			}
			if len(got) != 1 || got[0].rows != 10_000 || got[0].batches < 10 || got[0].xa != c.want {
				l.Fatalf("%s: %d transactions, first: %d rows in %d batches, %q", c.end, len(got), got[0].rows, got[0].batches, got[0].xa)
			}
			if held := got[0].changes[0][:4] == "held"; held != (c.want != "") {
				l.Errorf("%s: the first row is %q", c.end, got[0].changes[0])
			}
			if c.want == pipeline.XAPrepare {
				l.exec("XA ROLLBACK 'a'")
				l.catchUp()
			}
		}
	})
}

// TestXACutOff: a PREPARE that was cut off comes again from its start.
func TestXACutOff(t *testing.T) {
	onEachDriver(t, func(l *lab) {
		l.exec("CREATE TABLE item (id INT PRIMARY KEY, pad VARCHAR(500), sku VARCHAR(20))", "CREATE TABLE d (i INT)", "INSERT INTO d VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
		l.catchUp()
		n := 0
		l.onBatch(func() {
			if n++; n == 20 {
				l.killDump()
			}
		})
		l.exec("XA START 'a'", "INSERT INTO item SELECT a.i + 10*b.i + 100*c.i + 1000*e.i + 10000*f.i, REPEAT('p', 300), 's' FROM d a, d b, d c, d e, d f", "XA END 'a'", "XA PREPARE 'a'")
		got := l.catchUp()
		if len(got) != 1 || got[0].rows != 100_000 || got[0].xa != pipeline.XAPrepare || got[0].xid != "1:61:" {
			l.Fatalf("%d transactions, the first with %d rows: %s %s", len(got), got[0].rows, got[0].xa, got[0].xid)
		}
		if l.cut == 0 {
			l.Error("the transaction was not cut off: the test shows nothing")
		}
		l.check([]string{"XA ROLLBACK 'a'"}, "rollback 1:61:")
	})
}

// TestXAStatements: what an XA transaction writes in statement format is stale at
// its COMMIT only.
func TestXAStatements(t *testing.T) {
	onEach(t, itemRules, func(l *lab) {
		l.exec(createItem, "INSERT INTO item VALUES (1, 2, 'a')")
		l.catchUp()
		l.exec("SET SESSION binlog_format = 'STATEMENT'", "XA START 'a'", "UPDATE item SET sku = 'q' WHERE id = 1", "XA END 'a'", "XA PREPARE 'a'")
		got := l.catchUp()
		if len(got) != 1 || !slices.Contains(got[0].scopes, "held "+l.db+".item") || got[0].xa != pipeline.XAPrepare {
			l.Errorf("got %q", describe(got))
		}
		l.check([]string{"XA COMMIT 'a'"}, "commit 1:61:")
	})
}

// What was found outside of transactions does not wait for an XA COMMIT.
func TestDoubtsAreNotHeldBack(t *testing.T) {
	var got []pipeline.Batch
	a := assembler{ended: func(pipeline.Txn) {}, fn: func(_ context.Context, b pipeline.Batch) error {
		b.Invalidate = slices.Clone(b.Invalidate)
		got = append(got, b)
		return nil
	}}
	ctx := t.Context()
	a.invalidate("before", pipeline.Everything)
	item := pipeline.TableScope("shop", "item")
	for _, err := range []error{
		a.begin(ctx, pipeline.Txn{GTID: "u:1"}, false), a.heldBack(ctx), invalidated(&a, item), a.endXA(ctx, pipeline.XAPrepare, "x"),
		a.begin(ctx, pipeline.Txn{GTID: "u:2"}, false), invalidated(&a, item), a.end(ctx),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []struct {
		xa    pipeline.XAStep
		scope pipeline.Scope
	}{{"", pipeline.Everything}, {pipeline.XAPrepare, item}, {"", item}}
	if len(got) != len(want) {
		t.Fatalf("%d batches: %+v", len(got), got)
	}
	for i, w := range want {
		if got[i].XA != w.xa || !slices.Equal(got[i].Invalidate, []pipeline.Scope{w.scope}) {
			t.Errorf("batch %d: %q %v, want %q %v", i, got[i].XA, got[i].Invalidate, w.xa, w.scope)
		}
	}
	if !got[0].First || got[0].Last || got[1].First || !got[1].Last {
		t.Errorf("pieces of the first transaction: %+v", got[:2])
	}
}

func invalidated(a *assembler, s pipeline.Scope) error {
	a.invalidate("inside", s)
	return nil
}
