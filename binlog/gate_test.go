package binlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

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
			open := p.run(t)
			if open.stale == 0 {
				t.Error("no stale read without the gate: the test shows nothing")
			}
			gate := NewGate(p.cfg, pipeline.Hooks{})
			t.Cleanup(gate.Close)
			p.gate, p.checks = gate, 1000
			gated := p.run(t)
			t.Logf("stale: %d of 300 without, %d of 1000 with the gate; held %v on average, %v at most",
				open.stale, gated.stale, gated.heldTotal/1000, gated.held)
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
	p.gate = NewGate(p.cfg, pipeline.Hooks{})
	t.Cleanup(p.gate.Close)
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
		p.gate = NewGate(cfg, pipeline.Hooks{})
		t.Cleanup(p.gate.Close)
		if r := p.run(t); r.stale != 0 || r.held < 2900*time.Millisecond {
			t.Errorf("behind the gate: %d stale, held for %v; want 0 and 3 s", r.stale, r.held)
		}
	})
}

// stalled returns a transaction that is in the binlog but not visible, and stays
// so for a minute.
func stalled(t *testing.T, s *testenv.Server) pipeline.Txn {
	t.Helper()
	cfg, db := rootConfig(s), envtest.Database(t, s)
	admin := mustConnect(t, cfg)
	mustExec(t, admin, "CREATE TABLE "+db+".probe (id INT PRIMARY KEY, v INT NOT NULL)", "INSERT INTO "+db+".probe VALUES (0, 0)")
	stall(t, cfg, time.Minute)
	stream := follow(t, t.Context(), cfg)
	semiSyncOn(t, cfg)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { _ = s.Kill() })
	wg.Go(func() { _, _ = admin.Execute("UPDATE " + db + ".probe SET v = 1") })
	return stream.until(t, t.Context(), 1)
}

// waiting runs Wait and returns a channel with its result, once Wait has asked
// the server for the first time.
func waiting(ctx context.Context, g *Gate, t pipeline.Txn) <-chan error {
	done := make(chan error, 1)
	go func() { done <- g.Wait(ctx, t) }()
	return done
}

func result(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("the gate is still closed after 30 s")
		return nil
	}
}

// asked waits until the server runs the gate's question.
func asked(t *testing.T, s *testenv.Server) {
	t.Helper()
	c := mustConnect(t, rootConfig(s))
	for t.Context().Err() == nil {
		res, err := c.Execute("SELECT COUNT(*) FROM performance_schema.processlist WHERE INFO LIKE 'SELECT WAIT_FOR_EXECUTED%'")
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := res.GetInt(0, 0); n > 0 {
			return
		}
	}
}

func TestGateGoesOnAfterServerDies(t *testing.T) {
	bothFlavors(t, func(t *testing.T, s *testenv.Server) {
		txn := stalled(t, s)
		var retries atomic.Int64
		g := NewGate(rootConfig(s), pipeline.Hooks{Retry: func(string, int, error, time.Duration) { retries.Add(1) }})
		t.Cleanup(g.Close)
		done := waiting(t.Context(), g, txn)
		eventually(t, "the gate is connected", func() bool { return connections(t, s) > 1 })
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := result(t, done); err != nil { // recovery commits what is in the binlog
			t.Errorf("Wait: %v", err)
		}
		if retries.Load() == 0 {
			t.Error("hooks.Retry was not told")
		}
	})
}

// connections is 1 and one more for each connection that runs a gate's question.
func connections(t *testing.T, s *testenv.Server) int64 {
	t.Helper()
	c, err := Connect(t.Context(), rootConfig(s))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	res, err := c.Execute("SELECT 1 + COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT WAIT_FOR_EXECUTED%' OR INFO LIKE 'START TRANSACTION WITH%' OR INFO LIKE 'SHOW SESSION STATUS%' OR INFO = 'ROLLBACK'")
	if err != nil {
		t.Fatal(err)
	}
	n, _ := res.GetInt(0, 0)
	return n
}

func TestGateGoesOnAfterServerFreezes(t *testing.T) {
	s := envtest.MySQL(t, testenv.MySQLOptions{})
	cfg := rootConfig(s)
	g := NewGate(cfg, pipeline.Hooks{})
	t.Cleanup(g.Close)
	seen := make(chan struct{}, 100)
	g.hooks.Retry = func(string, int, error, time.Duration) { seen <- struct{}{} }
	first := executedNow(t, cfg, 0)
	if err := g.Wait(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	next := executedNow(t, cfg, 1)
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Resume() })
	done := waiting(t.Context(), g, next)
	<-seen
	mustResume(t, s)
	// The connection was lost and next never committed: the stream must decide.
	if err := result(t, done); !errors.Is(err, errOtherHistory) {
		t.Errorf("Wait: %v, want %v", err, errOtherHistory)
	}
}

func mustResume(t *testing.T, s *testenv.Server) {
	t.Helper()
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
}

// executedNow names the newest transaction of a server, or the ahead-th after it.
func executedNow(t *testing.T, cfg Config, ahead int64) pipeline.Txn {
	t.Helper()
	c := mustConnect(t, cfg)
	mustExec(t, c, "CREATE DATABASE IF NOT EXISTS gate", "DROP DATABASE gate")
	res, err := c.Execute("SELECT @@GLOBAL.gtid_executed, @@server_uuid")
	if err != nil {
		t.Fatal(err)
	}
	set, _ := res.GetString(0, 0)
	uuid, _ := res.GetString(0, 1)
	var last int64
	for _, r := range rangesOf(set, uuid, "") {
		last = max(last, r.last)
	}
	return pipeline.Txn{GTID: fmt.Sprintf("%s:%d", uuid, last+ahead)}
}

func TestGateNoticesResetOfMariaDB(t *testing.T) {
	s := envtest.MariaDB(t, testenv.MySQLOptions{})
	cfg := rootConfig(s)
	g := NewGate(cfg, pipeline.Hooks{})
	t.Cleanup(g.Close)
	mustExec(t, mustConnect(t, cfg), "FLUSH BINARY LOGS", "CREATE DATABASE gate")
	first := pipeline.Txn{GTID: "0-1-1", File: "binlog.000001", Offset: 4}
	if err := g.Wait(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	done := waiting(t.Context(), g, pipeline.Txn{GTID: "0-1-99", File: "binlog.000002", Offset: 1 << 40})
	eventually(t, "the gate asks", func() bool { return connections(t, s) > 1 })
	mustExec(t, mustConnect(t, cfg), "RESET MASTER")
	if err := result(t, done); !errors.Is(err, errOtherHistory) {
		t.Errorf("Wait: %v, want %v", err, errOtherHistory)
	}
}

func TestGateNoticesReset(t *testing.T) {
	s := envtest.MySQL(t, testenv.MySQLOptions{})
	cfg := rootConfig(s)
	g := NewGate(cfg, pipeline.Hooks{})
	t.Cleanup(g.Close)
	if err := g.Wait(t.Context(), executedNow(t, cfg, 0)); err != nil {
		t.Fatal(err)
	}
	next := executedNow(t, cfg, 5)
	done := waiting(t.Context(), g, next)
	asked(t, s)
	mustExec(t, mustConnect(t, cfg), "RESET BINARY LOGS AND GTIDS")
	if err := result(t, done); !errors.Is(err, errOtherHistory) {
		t.Errorf("Wait: %v, want %v", err, errOtherHistory)
	}
}

func TestGateAsksTheServerThatIsThereNow(t *testing.T) {
	a, b := envtest.MySQL(t, testenv.MySQLOptions{}), envtest.MySQL(t, testenv.MySQLOptions{})
	vip := newVIP(t, a.Addr)
	cfg := rootConfig(a)
	cfg.Addr = vip.addr()
	g := NewGate(cfg, pipeline.Hooks{})
	t.Cleanup(g.Close)
	old := executedNow(t, rootConfig(a), 0)
	if err := g.Wait(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	lost := executedNow(t, rootConfig(a), 1)
	done := waiting(t.Context(), g, lost)
	asked(t, a)
	vip.move(b.Addr)
	if err := result(t, done); !errors.Is(err, errOtherHistory) {
		t.Errorf("a transaction that died with the old server: %v, want %v", err, errOtherHistory)
	}
	if err := g.Wait(t.Context(), executedNow(t, rootConfig(b), 0)); err != nil {
		t.Errorf("a transaction of the new server: %v", err)
	}
	// What the old server showed must not open the gate any more.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := g.Wait(ctx, old); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an old transaction on the new server: %v, want to wait", err)
	}
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

func FuzzExecutedSet(f *testing.F) {
	const a, b = "b8a0d50b-e5ae-11f1-a49e-02fc00000001", "b8a0d50b-e5ae-11f1-a49e-02fc00000002"
	f.Add(a+":1-5:7:red:1-3,\n"+b+":1", a, "red", int64(2))
	f.Add(a+":1-5:7:red:1-3,\n"+b+":1", a, "", int64(6))
	f.Add(a+":red:5,"+b+":9-12", b, "red", int64(10))
	f.Fuzz(func(t *testing.T, set, sid, tag string, gno int64) {
		gtid := sid + ":" + fmt.Sprint(gno)
		if tag != "" {
			gtid = sid + ":" + tag + ":" + fmt.Sprint(gno)
		}
		if _, _, _, err := splitGTID(gtid); err != nil {
			return
		}
		whole, err := mysql.ParseMysqlGTIDSet(set)
		one, err1 := mysql.ParseMysqlGTIDSet(gtid)
		if err != nil || err1 != nil {
			return
		}
		have, err := (&executedSet{text: set}).contains(gtid)
		if err != nil {
			return
		}
		// Wrong in the direction of asking again is harmless.
		if have && !whole.Contain(one) {
			t.Errorf("%q contains %q: true, go-mysql says false", set, gtid)
		}
	})
}

// vip is an address that can be moved to another server, as in a failover.
type vip struct {
	l      net.Listener
	target atomic.Value
	mu     sync.Mutex
	open   []net.Conn
}

func newVIP(t *testing.T, target string) *vip {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &vip{l: l}
	v.target.Store(target)
	go v.serve()
	t.Cleanup(func() { _ = l.Close(); v.move(target) })
	return v
}

func (v *vip) addr() string { return v.l.Addr().String() }

func (v *vip) serve() {
	for {
		in, err := v.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", v.target.Load().(string))
		if err != nil {
			_ = in.Close()
			continue
		}
		v.mu.Lock()
		v.open = append(v.open, in, out)
		v.mu.Unlock()
		go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
		go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
	}
}

// move sends new connections elsewhere and cuts the old ones.
func (v *vip) move(target string) {
	v.target.Store(target)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.open {
		_ = c.Close()
	}
	v.open = nil
}
