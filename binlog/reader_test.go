package binlog

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func ask(t testing.TB, r *Reader) pipeline.View {
	t.Helper()
	v, err := r.Ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A reader shows tagged GTIDs, those of other servers, and holes, as its server
// has them.
func TestReaderShowsWhatTheServerHas(t *testing.T) {
	const other = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	cfg := rootConfig(envtest.MySQL(t, testenv.MySQLOptions{}))
	c, r := mustConnect(t, cfg), newReader(t, cfg)
	own := ask(t, r).Server
	commit := func(gtids ...string) {
		for _, g := range gtids {
			mustExec(t, c, "SET gtid_next = '"+g+"'", "BEGIN", "COMMIT", "SET gtid_next = AUTOMATIC")
		}
	}
	commit(own+":5", own+":7", other+":1", other+":2", other+":red:9", other+":red:10", own+":blue:1")
	for n := 2; n <= 1200; n += 2 {
		commit(fmt.Sprintf("%s:%d", other, 100+n))
	}
	v := ask(t, r)
	if v.Server != own {
		t.Errorf("server %s, before %s", v.Server, own)
	}
	for g, want := range map[string]bool{
		own + ":5": true, own + ":6": false, own + ":7": true, other + ":2": true, other + ":3": false, own + ":red:9": false,
		other + ":red:9": true, other + ":red:8": false, strings.ToUpper(other) + ":RED:10": true, own + ":blue:1": true,
		other + ":102": true, other + ":103": false, other + ":1300": true, other + ":1302": false,
	} {
		if v.Shown.Has(g) != want {
			t.Errorf("Has(%s) is %v", g, !want)
		}
	}
	text, err := c.Execute("SELECT @@GLOBAL.gtid_executed")
	if err != nil {
		t.Fatal(err)
	}
	printed, _ := text.GetString(0, 0)
	if want := strings.ReplaceAll(printed, "\n", ""); v.Shown.String() != want {
		t.Errorf("%d bytes of %s…\nwant %d bytes of %s…", len(v.Shown.String()), v.Shown.String()[:200], len(want), want[:200])
	}
	// The server's own arithmetic says the same.
	half, err := gtid.Parse(own + ":1-6:blue:1-3," + other + ":50-600:red:10")
	if err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string]gtid.Set{
		"GTID_SUBTRACT(@@GLOBAL.gtid_executed, '" + half.String() + "')": v.Shown.Minus(half),
		"GTID_SUBTRACT('" + half.String() + "', @@GLOBAL.gtid_executed)": half.Minus(v.Shown),
	} {
		res, err := c.Execute("SELECT " + what)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := res.GetString(0, 0)
		if want := strings.ReplaceAll(text, "\n", ""); got.String() != want {
			t.Errorf("%s is\n%s, the server says\n%s", what, got, want)
		}
	}
}

func bothReaders(t *testing.T, test func(*testing.T, *testenv.Server, *Reader)) {
	bothFlavors(t, func(t *testing.T, s *testenv.Server) {
		mustExec(t, mustConnect(t, rootConfig(s)), "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT)", "INSERT INTO d.t VALUES (1)")
		test(t, s, newReader(t, rootConfig(s)))
	})
}

// untilAsked asks until an answer comes, or a minute is over.
func untilAsked(t testing.TB, r *Reader) pipeline.View {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		v, err := r.Ask(ctx)
		if err == nil {
			return v
		}
		if !pause(ctx, 10*time.Millisecond) {
			t.Fatalf("no answer: %v", err)
		}
	}
}

func TestReaderSurvivesItsServer(t *testing.T) {
	bothReaders(t, func(t *testing.T, s *testenv.Server, r *Reader) {
		before := ask(t, r)
		for _, end := range []func() error{s.Kill, func() error { return s.Stop(t.Context()) }} {
			if err := end(); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the connection that broke, and a new one
				if v, err := r.Ask(t.Context()); err == nil || !v.Shown.Empty() || v.Server != "" {
					t.Errorf("an answer from a dead server: %v, %v", v, err)
				}
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			mustExec(t, mustConnect(t, rootConfig(s)), "INSERT INTO d.t VALUES ()")
			after := untilAsked(t, r)
			if after.Server != before.Server || !after.Shown.HasAll(before.Shown) || before.Shown.HasAll(after.Shown) {
				t.Errorf("before %v, after %v", before, after)
			}
			before = after
		}
	})
}

// A reader that stands still holds an Ask no longer than ctx allows, and nothing
// is left behind.
func TestReaderOfFrozenServer(t *testing.T) {
	bothReaders(t, func(t *testing.T, s *testenv.Server, r *Reader) {
		ask(t, r)
		goroutines := runtime.NumGoroutine()
		if err := s.Pause(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Resume() })
		for range 3 { // on the connection that was open, and on new ones
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			start := time.Now()
			_, err := r.Ask(ctx)
			cancel()
			if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took > 2*time.Second {
				t.Errorf("Ask returned %v after %v", err, took)
			}
		}
		for range 100 { // those of a closed connection end on their own
			if runtime.NumGoroutine() <= goroutines || !pause(t.Context(), 20*time.Millisecond) {
				break
			}
		}
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%d goroutines, before %d", n, goroutines)
		}
		if err := s.Resume(); err != nil {
			t.Fatal(err)
		}
		untilAsked(t, r)
	})
}

func TestReaderShowsAReset(t *testing.T) {
	bothReaders(t, func(t *testing.T, s *testenv.Server, r *Reader) {
		c, reset := mustConnect(t, rootConfig(s)), "RESET BINARY LOGS AND GTIDS"
		if isMariaDB(t, rootConfig(s)) {
			reset = "RESET MASTER"
		}
		before := ask(t, r)
		mustExec(t, c, reset, "INSERT INTO d.t VALUES ()")
		after := untilAsked(t, r)
		if after.Server != before.Server || after.Shown.HasAll(before.Shown) || after.Shown.Empty() {
			t.Errorf("before %v, after %v", before, after)
		}
	})
}

// Where the address leads to another server, that is seen: as an error where one
// server is expected, as another identity where any is.
func TestReaderNoticesAnotherServer(t *testing.T) {
	bothFlavors(t, func(t *testing.T, one *testenv.Server) {
		start := envtest.MySQL
		if isMariaDB(t, rootConfig(one)) {
			start = envtest.MariaDB
		}
		cfg := Config{Addr: balancer(t, start(t), one), User: "root"} // one is the first
		any := newReader(t, cfg)
		first := ask(t, any)
		any.Close()
		if second := ask(t, any); second.Server == first.Server || first.Server == "" {
			t.Errorf("servers %q and %q", first.Server, second.Server)
		}
		r := NewReader(cfg, "r", strings.ToUpper(first.Server))
		if isMariaDB(t, rootConfig(one)) {
			r = NewReader(cfg, "r", first.Server)
		}
		t.Cleanup(r.Close)
		if v := ask(t, r); v.Server != first.Server {
			t.Errorf("server %q", v.Server)
		}
		r.Close()
		if v, err := r.Ask(t.Context()); !errors.Is(err, errWrongServer) || !v.Shown.Empty() {
			t.Errorf("another server: %v, %v", v, err)
		}
		if v := ask(t, r); v.Server != first.Server {
			t.Errorf("server %q after the error", v.Server)
		}
	})
}

// Somebody wrote to a MariaDB replica: its transaction has the number of one of
// the source's that has not come yet. Once it is promoted, what it writes counts.
func TestReaderOfWrittenReplica(t *testing.T) {
	source := envtest.MariaDB(t, testenv.MySQLOptions{})
	on := mustConnect(t, rootConfig(source))
	mustExec(t, on, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)", "SET GLOBAL gtid_strict_mode = OFF")
	replica := envtest.MariaDB(t, testenv.MySQLOptions{ReplicaOf: source, Args: []string{"--read-only=OFF"}})
	waitShown(t, rootConfig(source), rootConfig(replica))
	r, c := newReader(t, rootConfig(replica)), mustConnect(t, rootConfig(replica))
	before := ask(t, r)
	mustExec(t, c, "INSERT INTO d.t VALUES (1)")
	if v := ask(t, r); v.Shown.String() != before.Shown.String() {
		t.Errorf("%s, before the write %s", v.Shown, before.Shown)
	}
	mustExec(t, on, "INSERT INTO d.t VALUES (2)")
	waitShown(t, rootConfig(source), rootConfig(replica))
	mustExec(t, c, "STOP SLAVE", "RESET SLAVE ALL", "INSERT INTO d.t VALUES (3)")
	res, err := c.Execute("SELECT @@GLOBAL.gtid_binlog_pos")
	if err != nil {
		t.Fatal(err)
	}
	if pos, _ := res.GetString(0, 0); !untilAsked(t, r).Shown.Has(pos) {
		t.Errorf("%s is not shown", pos)
	}
}

func TestReaderErrorsAreSafe(t *testing.T) {
	s := envtest.MySQL(t)
	r := NewReader(Config{Addr: s.Addr, User: "root", Password: "h1dden"}, "replica1", "")
	_, err := r.Ask(t.Context())
	if err == nil || strings.Contains(err.Error(), "h1dden") || !strings.Contains(err.Error(), "ask reader replica1: connect to "+s.Addr) {
		t.Errorf("error %v", err)
	}
}

// In a semi-sync stall the source's binlog has a commit that no reader sees.
func TestReaderHoldsThroughSemiSyncStall(t *testing.T) {
	bothFlavors(t, func(t *testing.T, s *testenv.Server) {
		cfg := rootConfig(s)
		stall(t, cfg, 3*time.Second)
		p := probe{cfg: cfg, db: envtest.Database(t, s), checks: 1, before: func() { semiSyncOn(t, cfg) }}
		g := &askingGate{r: newReader(t, cfg)}
		p.gate = g
		if r := p.run(t); r.stale != 0 || r.held < 2900*time.Millisecond {
			t.Errorf("%d stale, held for %v; want 0 and 3 s", r.stale, r.held)
		}
		t.Logf("asked %d times", g.asks)
	})
}

// A set that has not changed is not parsed again.
func BenchmarkReaderAsk(b *testing.B) {
	for _, n := range []int{1, 5000} {
		var text strings.Builder
		text.WriteString("3e11fa47-71ca-11e1-9e33-c80aa9429562")
		for i := range n {
			fmt.Fprintf(&text, ":%d", 2*i+1)
		}
		s := envtest.MySQL(b, testenv.MySQLOptions{})
		mustExec(b, mustConnect(b, rootConfig(s)), "RESET BINARY LOGS AND GTIDS", "SET GLOBAL gtid_purged = '"+text.String()+"'")
		r := newReader(b, rootConfig(s))
		b.Run(fmt.Sprintf("%d holes", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Ask(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
