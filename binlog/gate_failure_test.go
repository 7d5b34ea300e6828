package binlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

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
	text, _ := res.GetString(0, 0)
	uuid, _ := res.GetString(0, 1)
	set, err := gtid.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	for set.Has(fmt.Sprintf("%s:%d", uuid, last+1)) {
		last++
	}
	return pipeline.Txn{GTID: fmt.Sprintf("%s:%d", uuid, last+ahead)}
}

func TestGateNoticesResetOfMariaDB(t *testing.T) {
	s := envtest.MariaDB(t, testenv.MySQLOptions{})
	cfg := rootConfig(s)
	// Without PROCESS: with it, a transaction that is not there counts as visible
	// once the server has nothing left to commit.
	mustExec(t, mustConnect(t, cfg), "CREATE USER gate@'%'", "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO gate@'%'",
		"FLUSH BINARY LOGS", "CREATE DATABASE gate")
	own := cfg
	own.User, own.Password = "gate", ""
	g := NewGate(own, pipeline.Hooks{})
	t.Cleanup(g.Close)
	first := pipeline.Txn{GTID: "0-1-1", File: "binlog.000002", Offset: 4} // from there on a reset goes back
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
