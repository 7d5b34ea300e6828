// Package envtest gives tests real servers: one of each kind, shared by the whole test binary, or own ones.
//
// Without TESTENV set a test runs only where nothing has to be downloaded, and is skipped with the reason elsewhere; with
// TESTENV=require (what make test sets) a server that cannot start fails the test.
package envtest

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv"
)

// shared is the environment of this test binary.
var shared struct {
	mu      sync.Mutex
	env     *testenv.Env
	err     error
	require bool
	servers map[string]*started
}

type started struct {
	server *testenv.Server
	err    error
}

// Main is for TestMain: it runs the tests, closes the shared servers and exits.
func Main(m *testing.M) {
	code := m.Run()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.env != nil {
		if err := shared.env.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "envtest:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// Shared returns the test binary's environment, opened by the first caller. The test is skipped, or fails under require,
// where it cannot be opened. Servers started through it live until Main ends.
func Shared(t testing.TB) *testenv.Env {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.env == nil && shared.err == nil {
		open()
	}
	if shared.err != nil {
		give(t, shared.err)
	}
	return shared.env
}

// open is called once, with the lock held.
func open() {
	mode, require, err := testenv.ModeFromEnv()
	shared.require, shared.err = require, err
	shared.servers = map[string]*started{}
	if err != nil {
		shared.require = true // a misspelt setting must not skip everything
		return
	}
	shared.env, shared.err = testenv.Open(context.Background(), testenv.Options{
		Mode:       mode,
		NoDownload: os.Getenv("TESTENV") == "",
		Log:        func(line string) { fmt.Fprintln(os.Stderr, "testenv:", line) },
	})
}

// give ends the test: no server.
func give(t testing.TB, err error) {
	t.Helper()
	if shared.require {
		t.Fatalf("testenv: %v", err)
	}
	t.Skipf("testenv: %v", err)
}

// startLimit bounds one start, downloads included.
const startLimit = 10 * time.Minute

// server returns the shared server of a kind when own is false, else a new one that is closed with the test.
func server(t testing.TB, kind string, own bool, start func(context.Context, *testenv.Env) (*testenv.Server, error)) *testenv.Server {
	t.Helper()
	env := Shared(t)
	if own {
		ctx, cancel := context.WithTimeout(t.Context(), startLimit)
		defer cancel()
		s, err := start(ctx, env)
		if err != nil {
			give(t, err)
		}
		t.Cleanup(func() { _ = s.Close() })
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("log of %s at %s ends:\n%s", s.Kind, s.Addr, s.LogTail(20))
			}
		})
		return s
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.servers[kind] == nil {
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		s, err := start(ctx, env)
		shared.servers[kind] = &started{s, err}
	}
	if err := shared.servers[kind].err; err != nil {
		give(t, err)
	}
	return shared.servers[kind].server
}

// first returns the only option given, or the zero value.
func first[T any](t testing.TB, opts []T) (o T) {
	t.Helper()
	if len(opts) > 1 {
		t.Fatal("envtest: give at most one options value")
	}
	if len(opts) == 1 {
		o = opts[0]
	}
	return o
}

// MySQL returns the shared MySQL server, or with options one of the test's own.
func MySQL(t testing.TB, opts ...testenv.MySQLOptions) *testenv.Server {
	t.Helper()
	o := first(t, opts)
	return server(t, "mysql", len(opts) > 0, func(ctx context.Context, e *testenv.Env) (*testenv.Server, error) { return e.MySQL(ctx, o) })
}

// MariaDB returns the shared MariaDB server, or with options one of the test's own.
func MariaDB(t testing.TB, opts ...testenv.MySQLOptions) *testenv.Server {
	t.Helper()
	o := first(t, opts)
	return server(t, "mariadb", len(opts) > 0, func(ctx context.Context, e *testenv.Env) (*testenv.Server, error) { return e.MariaDB(ctx, o) })
}

// Kafka returns the shared Kafka server, or with options one of the test's own.
func Kafka(t testing.TB, opts ...testenv.KafkaOptions) *testenv.Server {
	t.Helper()
	o := first(t, opts)
	return server(t, "kafka", len(opts) > 0, func(ctx context.Context, e *testenv.Env) (*testenv.Server, error) { return e.Kafka(ctx, o) })
}

// Redis returns the shared Redis server, or with options one of the test's own.
func Redis(t testing.TB, opts ...testenv.RedisOptions) *testenv.Server {
	t.Helper()
	o := first(t, opts)
	return server(t, "redis", len(opts) > 0, func(ctx context.Context, e *testenv.Env) (*testenv.Server, error) { return e.Redis(ctx, o) })
}

// Valkey returns the shared Valkey server, or with options one of the test's own.
func Valkey(t testing.TB, opts ...testenv.RedisOptions) *testenv.Server {
	t.Helper()
	o := first(t, opts)
	return server(t, "valkey", len(opts) > 0, func(ctx context.Context, e *testenv.Env) (*testenv.Server, error) { return e.Valkey(ctx, o) })
}

// RedisCluster starts a Redis Cluster of three masters for this test.
func RedisCluster(t testing.TB, opts ...testenv.ClusterOptions) *testenv.Cluster {
	t.Helper()
	env, o := Shared(t), first(t, opts)
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	c, err := env.RedisCluster(ctx, 3, o)
	if err != nil {
		give(t, err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// RedisSentinel starts a Redis master, a replica and three sentinels for this test.
func RedisSentinel(t testing.TB) *testenv.Sentinel {
	t.Helper()
	env := Shared(t)
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	s, err := env.RedisSentinel(ctx)
	if err != nil {
		give(t, err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// DB returns a connection pool on a MySQL or MariaDB server, as root, with several statements per call allowed; it is
// closed with the test.
func DB(t testing.TB, s *testenv.Server) *sql.DB {
	t.Helper()
	db, err := testenv.OpenDB(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// FreeAddr returns an address of 127.0.0.1 on which nobody listens now. Another program may take it.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Exec runs statements one after the other, on a pool or on one connection; the test ends at the first that fails.
func Exec(t testing.TB, db interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%.300s: %v", s, err)
		}
	}
}

var names atomic.Int64

func unique(prefix string) string {
	return fmt.Sprintf("%s_%d_%d", prefix, os.Getpid(), names.Add(1))
}

// Database creates a database of the test's own and returns its name; it is dropped with the test.
func Database(t testing.TB, s *testenv.Server) string {
	t.Helper()
	db, name := DB(t, s), unique("t")
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The server may be down by now, on purpose; t.Context() is over in a cleanup.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, _ = db.ExecContext(ctx, "DROP DATABASE IF EXISTS "+name)
	})
	return name
}

// Topic returns a topic name that no other test uses. It creates nothing.
func Topic(t testing.TB) string {
	t.Helper()
	return unique("topic")
}
