package binlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// A reader that asks as soon as the event is there sees old rows; one that asks
// behind the gate never does.
func TestGateLetsNoStaleReadThrough(t *testing.T) {
	for _, c := range []struct {
		name    string
		start   func(testing.TB, ...testenv.MySQLOptions) *testenv.Server
		own     []testenv.MySQLOptions
		writers int
	}{
		{"mysql, one writer", envtest.MySQL, nil, 0},
		{"mysql, 16 writers", envtest.MySQL, nil, 16},
		{"mysql, binlog_order_commits off", envtest.MySQL, []testenv.MySQLOptions{{Args: []string{"--binlog-order-commits=OFF"}}}, 16},
		{"mariadb, one writer", envtest.MariaDB, nil, 0},
		{"mariadb, 16 writers", envtest.MariaDB, []testenv.MySQLOptions{{Args: []string{"--sync-binlog=1"}}}, 16},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.start(t, c.own...)
			p := probe{cfg: rootConfig(s), db: envtest.Database(t, s), writers: c.writers, checks: 300}
			open, tries := p.run(t), 300
			for ; open.stale == 0 && tries < 6000; tries += 300 { // a quiet MariaDB commits quickly
				open = p.run(t)
			}
			if open.stale == 0 {
				t.Error("no stale read without the gate: the test shows nothing")
			}
			gate := NewGate(p.cfg, pipeline.Hooks{})
			t.Cleanup(gate.Close)
			p.gate, p.checks = gate, 1000
			gated := p.run(t)
			t.Logf("stale: %d of %d without, %d of 1000 with the gate; held %v on average, %v at most",
				open.stale, tries, gated.stale, gated.heldTotal/1000, gated.held)
			if gated.stale != 0 {
				t.Errorf("%d stale reads behind the gate", gated.stale)
			}
		})
	}
}

// Where a MariaDB server's snapshots run ahead of its readers, the gate stays
// closed and says why; preflight refuses such a server.
func TestGateRefusesThreadScheduling(t *testing.T) {
	cfg := rootConfig(envtest.MariaDB(t, testenv.MySQLOptions{Args: []string{"--binlog-optimize-thread-scheduling=OFF"}}))
	ctx, cancel := context.WithCancelCause(t.Context())
	g := NewGate(cfg, pipeline.Hooks{Retry: func(_ string, _ int, err error, _ time.Duration) { cancel(err) }})
	t.Cleanup(g.Close)
	if err := g.Wait(ctx, pipeline.Txn{GTID: "0-1-1", File: "binlog.000001", Offset: 4}); !errors.Is(err, errThreadScheduling) {
		t.Errorf("Wait: %v, want %v", err, errThreadScheduling)
	}
}

// On a replica that applies in parallel and commits out of order, the gate asks
// the replica, and the readers read there.
func TestGateOnReplica(t *testing.T) {
	source := envtest.MySQL(t, testenv.MySQLOptions{})
	replica := envtest.MySQL(t, testenv.MySQLOptions{ReplicaOf: source, Args: []string{
		"--replica-parallel-workers=8", "--replica-preserve-commit-order=OFF"}})
	write := rootConfig(source)
	p := probe{cfg: rootConfig(replica), source: &write, db: envtest.Database(t, source), writers: 8, checks: 500}
	gate := NewGate(p.cfg, pipeline.Hooks{})
	t.Cleanup(gate.Close)
	p.gate = gate
	waitForTable(t, p)
	if r := p.run(t); r.stale != 0 {
		t.Errorf("%d stale reads behind the gate", r.stale)
	}
}

// waitForTable lets the replica catch up with the probe's database.
func waitForTable(t *testing.T, p probe) {
	t.Helper()
	c := mustConnect(t, *p.source)
	mustExec(t, c, "CREATE TABLE "+p.db+".probe (id INT PRIMARY KEY, v INT NOT NULL)")
	res, err := c.Execute("SELECT @@GLOBAL.gtid_executed")
	if err != nil {
		t.Fatal(err)
	}
	set, _ := res.GetString(0, 0)
	mustExec(t, mustConnect(t, p.cfg), "SELECT WAIT_FOR_EXECUTED_GTID_SET("+quote(set)+", 20)")
}

// stall makes each commit wait for a replica that does not exist: after the
// binlog has it, before a reader sees it. semiSyncOn begins it.
func stall(t *testing.T, cfg Config, limit time.Duration) {
	t.Helper()
	ms := limit.Milliseconds()
	if isMariaDB(t, cfg) {
		mustExec(t, mustConnect(t, cfg), fmt.Sprintf("SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC, GLOBAL rpl_semi_sync_master_wait_no_slave = ON, GLOBAL rpl_semi_sync_master_timeout = %d", ms))
		return
	}
	mustExec(t, mustConnect(t, cfg), "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
		fmt.Sprintf("SET GLOBAL rpl_semi_sync_source_wait_no_replica = ON, GLOBAL rpl_semi_sync_source_timeout = %d", ms))
}

func semiSyncOn(t *testing.T, cfg Config) {
	t.Helper()
	name := "rpl_semi_sync_source_enabled"
	if isMariaDB(t, cfg) {
		name = "rpl_semi_sync_master_enabled"
	}
	mustExec(t, mustConnect(t, cfg), "SET GLOBAL "+name+" = OFF", "SET GLOBAL "+name+" = ON")
}

func isMariaDB(t *testing.T, cfg Config) bool {
	t.Helper()
	srv, err := Detect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return srv.MariaDB()
}

// bothFlavors runs a test on an own server of each kind.
func bothFlavors(t *testing.T, test func(*testing.T, *testenv.Server)) {
	t.Run("mysql", func(t *testing.T) { test(t, envtest.MySQL(t, testenv.MySQLOptions{})) })
	t.Run("mariadb", func(t *testing.T) { test(t, envtest.MariaDB(t, testenv.MySQLOptions{})) })
}

func TestGateHoldsThroughSemiSyncStall(t *testing.T) {
	bothFlavors(t, func(t *testing.T, s *testenv.Server) {
		cfg := rootConfig(s)
		stall(t, cfg, 3*time.Second)
		p := probe{cfg: cfg, db: envtest.Database(t, s), checks: 1, before: func() { semiSyncOn(t, cfg) }}
		if r := p.run(t); r.stale == 0 || r.worst < 2900*time.Millisecond {
			t.Errorf("without the gate: %d stale, for %v; want 1 for 3 s", r.stale, r.worst)
		}
		gate := NewGate(cfg, pipeline.Hooks{})
		t.Cleanup(gate.Close)
		p.gate = gate
		if r := p.run(t); r.stale != 0 || r.held < 2900*time.Millisecond {
			t.Errorf("behind the gate: %d stale, held for %v; want 0 and 3 s", r.stale, r.held)
		}
	})
}

// A tailer that is behind asks once: the server may even be down afterwards.
func TestGateAnswersFromWhatItKnows(t *testing.T) {
	s := envtest.MySQL(t, testenv.MySQLOptions{})
	cfg := rootConfig(s)
	var old []pipeline.Txn
	for range 20 {
		old = append(old, executedNow(t, cfg, 0))
	}
	mustExec(t, mustConnect(t, cfg), "SET gtid_next = 'AUTOMATIC:red'", "CREATE DATABASE gate")
	uuid, _, _ := strings.Cut(old[0].GTID, ":")
	g := NewGate(cfg, pipeline.Hooks{})
	t.Cleanup(g.Close)
	if err := g.Wait(t.Context(), old[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, txn := range append(old[1:], pipeline.Txn{GTID: uuid + ":red:1"}) {
		if err := g.Wait(t.Context(), txn); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := g.Wait(ctx, pipeline.Txn{GTID: uuid + ":blue:1"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a GTID that never was: %v, want to wait", err)
	}
}

func TestGateRefusesWhatItCannotAsk(t *testing.T) {
	s := envtest.MySQL(t)
	g := NewGate(rootConfig(s), pipeline.Hooks{})
	t.Cleanup(g.Close)
	for _, gtid := range []string{"", "x", "0-1-2", "b8a0d50b-e5ae-11f1-a49e-02fc00000001:1'", "b8a0d50b-e5ae-11f1-a49e-02fc00000001:"} {
		if err := g.Wait(t.Context(), pipeline.Txn{GTID: gtid}); !errors.Is(err, errNoCoordinates) {
			t.Errorf("GTID %q: %v, want %v", gtid, err, errNoCoordinates)
		}
	}
}

// go-mysql knows sets too; package gtid must not find anything that it does not.
func FuzzSetAgainstGoMySQL(f *testing.F) {
	const a, b = "b8a0d50b-e5ae-11f1-a49e-02fc00000001", "b8a0d50b-e5ae-11f1-a49e-02fc00000002"
	f.Add(a+":1-5:7:red:1-3,\n"+b+":1", a, "red", int64(2))
	f.Add(a+":1-5:7:red:1-3,\n"+b+":1", a, "", int64(6))
	f.Add(a+":red:5,"+b+":9-12", b, "red", int64(10))
	f.Fuzz(func(t *testing.T, set, sid, tag string, gno int64) {
		id := sid + ":" + fmt.Sprint(gno)
		if tag != "" {
			id = sid + ":" + tag + ":" + fmt.Sprint(gno)
		}
		whole, err := mysql.ParseMysqlGTIDSet(set)
		one, err1 := mysql.ParseMysqlGTIDSet(id)
		mine, err2 := gtid.Parse(set)
		if err != nil || err1 != nil || err2 != nil {
			return
		}
		if mine.Has(id) && !whole.Contain(one) {
			t.Errorf("%q contains %q: true, go-mysql says false", set, id)
		}
	})
}
