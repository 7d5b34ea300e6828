package binlog

import (
	"context"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// askingGate waits until a reader shows a transaction, as the second pass does.
type askingGate struct {
	r    *Reader
	asks int
}

func (g *askingGate) Wait(ctx context.Context, t pipeline.Txn) error {
	for {
		v, err := g.r.Ask(ctx)
		if err != nil {
			return err
		}
		g.asks++
		if v.Shown.Has(t.GTID) {
			return nil
		}
		if !pause(ctx, 100*time.Microsecond) {
			return context.Cause(ctx)
		}
	}
}

func newReader(t testing.TB, cfg Config) *Reader {
	t.Helper()
	r := NewReader(cfg, cfg.Addr, "")
	t.Cleanup(r.Close)
	return r
}

// What a reader shows, each SELECT sees that is sent after the answer: on a
// source, and on a replica whose workers commit in any order.
func TestReaderShowsNothingEarly(t *testing.T) {
	type start = func(testing.TB, ...testenv.MySQLOptions) *testenv.Server
	parallel := []string{"--replica-parallel-workers=8", "--replica-preserve-commit-order=OFF"}
	for _, c := range []struct {
		name     string
		start    start
		args     []string
		replica  []string // nil: the reader is the source
		early    bool     // a SELECT at the event would often be stale
		noBinlog bool     // the replica has none: events come from the source
	}{
		{name: "mysql source", start: envtest.MySQL, early: true},
		{name: "mysql source, binlog_order_commits off", start: envtest.MySQL, args: []string{"--binlog-order-commits=OFF"}, early: true},
		{name: "mysql replica, workers in any order", start: envtest.MySQL, args: []string{"--binlog-transaction-dependency-history-size=25000"}, replica: parallel},
		{name: "mysql replica, no binlog", start: envtest.MySQL, replica: append([]string{"--skip-log-bin"}, parallel...), noBinlog: true},
		{name: "mariadb source", start: envtest.MariaDB, args: []string{"--sync-binlog=1"}, early: true},
		{name: "mariadb source, small binlog files", start: envtest.MariaDB, args: []string{"--max-binlog-size=16384"}},
		{name: "mariadb replica", start: envtest.MariaDB, replica: []string{"--slave-parallel-threads=0"}},
		{name: "mariadb replica, optimistic workers", start: envtest.MariaDB, replica: []string{"--slave-parallel-threads=4", "--slave-parallel-mode=optimistic"}},
		{name: "mariadb replica, no binlog", start: envtest.MariaDB, replica: []string{"--slave-parallel-threads=4", "--skip-log-bin"}, noBinlog: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := c.start(t, testenv.MySQLOptions{Args: c.args})
			p := probe{cfg: rootConfig(source), db: envtest.Database(t, source), writers: 8, checks: 300}
			if c.replica != nil {
				from := p.cfg
				p.source = &from
				p.cfg = rootConfig(c.start(t, testenv.MySQLOptions{ReplicaOf: source, Args: c.replica}))
			}
			if c.noBinlog {
				p.stream = p.source
			}
			if !c.early {
				p.checks = 50
			}
			without, checks := p.run(t), p.checks
			if c.early && without.stale == 0 {
				t.Error("no stale read without asking: the test shows nothing")
			}
			g := &askingGate{r: newReader(t, p.cfg)}
			p.gate, p.checks = g, 500
			got := p.run(t)
			t.Logf("stale: %d of %d without asking, %d of %d with; asked %d times; shown after %v on average, %v at most", without.stale, checks, got.stale, p.checks, g.asks, got.heldTotal/time.Duration(p.checks), got.held)
			if got.stale != 0 {
				t.Errorf("%d stale reads of what the reader had shown", got.stale)
			}
		})
	}
}

// A reader that connects during a semi-sync stall says nothing rather than that
// nothing is visible; one that was there says that what it does not show was
// written, perhaps.
func TestReaderConnectsDuringSemiSyncStall(t *testing.T) {
	s := envtest.MariaDB(t, testenv.MySQLOptions{})
	cfg := rootConfig(s)
	c := mustConnect(t, cfg)
	mustExec(t, c, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
	there, late := newReader(t, cfg), newReader(t, cfg)
	before := ask(t, there)
	if before.Shown.Empty() || !before.Shown.HasAll(before.Written) {
		t.Fatalf("before the stall %v", before)
	}
	stall(t, cfg, 3*time.Second)
	semiSyncOn(t, cfg)
	done := make(chan error, 1)
	go func() {
		_, err := c.Execute("INSERT INTO d.t VALUES (2)")
		done <- err
	}()
	for during := before; during.Written.String() == before.Written.String(); {
		during = ask(t, there)
		if during.Shown.String() != before.Shown.String() {
			t.Fatalf("during the stall %v, before %v", during, before)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	v, err := late.Ask(ctx)
	cancel()
	if err == nil {
		t.Errorf("the new connection says %v, before %v", v, before)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if v := untilAsked(t, late); !v.Shown.HasAll(before.Shown) || v.Shown.String() == before.Shown.String() {
		t.Errorf("after the stall %v, before %v", v, before)
	}
}
