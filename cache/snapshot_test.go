package cache

import (
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"

	_ "github.com/go-sql-driver/mysql"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

type startSQL = func(testing.TB, ...testenv.MySQLOptions) *testenv.Server

func TestSnapshotRefusesSessions(t *testing.T) {
	for name, start := range map[string]startSQL{"mysql": envtest.MySQL, "mariadb": envtest.MariaDB} {
		s := start(t)
		for why, setup := range map[string]string{
			"autocommit off":      "SET autocommit=0",
			"read uncommitted":    "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
			"an open transaction": "BEGIN",
		} {
			t.Run(name+"/"+why, func(t *testing.T) {
				db := envtest.DB(t, s)
				db.SetMaxOpenConns(1) // the fill gets the connection that was prepared
				if _, err := db.ExecContext(t.Context(), setup); err != nil {
					t.Fatal(err)
				}
				_, err := inSnapshot(t.Context(), db, nil, func(*sql.Conn) error { t.Error("it reads"); return nil })
				t.Log(err)
				// MySQL does not say in so many words that a transaction is open.
				if err == nil || !errors.Is(err, ErrUnsafeSession) && (name == "mariadb" || setup != "BEGIN") {
					t.Errorf("error %v", err)
				}
			})
		}
	}
}

// TestSnapshotLeavesNothingOpen: whatever becomes of a fill, the next one on the
// same connection sees what was committed in between, on each isolation level.
func TestSnapshotLeavesNothingOpen(t *testing.T) {
	for name, start := range map[string]startSQL{"mysql": envtest.MySQL, "mariadb": envtest.MariaDB} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			db, writer, table := envtest.DB(t, s), envtest.DB(t, s), envtest.Database(t, s)+".a"
			db.SetMaxOpenConns(1)
			run(t, writer, "CREATE TABLE "+table+" (n INT)")
			run(t, writer, "INSERT INTO "+table+" VALUES (0)")
			wrong := errors.New("wrong")
			for i, end := range []func() error{
				func() error { return nil },
				func() error { return wrong },
				func() error { panic("a fill's") },
				func() error { run(t, db, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"); return nil },
				func() error { return nil },
			} {
				if i == 3 { // not inside the fill, which has the only connection
					_ = end()
					end = func() error { return nil }
				}
				func() {
					defer func() { _ = recover() }()
					_, err := inSnapshot(t.Context(), db, nil, func(c *sql.Conn) error {
						run(t, writer, "UPDATE "+table+" SET n = n + 1") // after the snapshot
						var n int
						if err := c.QueryRowContext(t.Context(), "SELECT n FROM "+table).Scan(&n); err != nil || n != i {
							t.Errorf("fill %d reads %d, %v", i, n, err)
						}
						return end()
					})
					if err != nil && !errors.Is(err, wrong) {
						t.Error(err)
					}
				}()
			}
		})
	}
}

// TestSnapshotBounds: what a snapshot shows is within its bounds, under load, on
// the server that is written to and on a replica that applies in parallel; and once
// all is quiet, it is said to show everything.
func TestSnapshotBounds(t *testing.T) {
	for _, c := range []struct {
		name    string
		start   startSQL
		replica []string
	}{
		{"mysql", envtest.MySQL, []string{"--replica-parallel-workers=8", "--replica-preserve-commit-order=OFF"}},
		{"mariadb", envtest.MariaDB, []string{"--slave-parallel-threads=8", "--slave-parallel-mode=optimistic"}},
		{"mariadb without a binlog on the replica", envtest.MariaDB, []string{"--slave-parallel-threads=8", "--skip-log-bin", "--log-slave-updates=OFF"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := c.start(t, testenv.MySQLOptions{Fast: true})
			replica := c.start(t, testenv.MySQLOptions{Fast: true, ReplicaOf: source, Args: c.replica})
			w := newHistory(t, source)
			var readers sync.WaitGroup
			done := make(chan struct{})
			for _, s := range []*testenv.Server{source, source, replica, replica} {
				db := envtest.DB(t, s)
				w.wait(t, db)
				tells := s == replica || s.Kind == "mysqld" // of what it shows
				readers.Go(func() { w.read(t, db, tells, done) })
			}
			w.write(t, 800)
			close(done)
			readers.Wait()
			w.check(t)
		})
	}
}

func TestOwnedSet(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "",
		serverA + ":23#12":                    serverA + ":23",
		serverA + ":23#12:25#7":               serverA + ":23:25",
		serverA + ":23#12" + serverB + ":4#5": serverA + ":23," + serverB + ":4",
		serverA + ":23#1200000000-71ca-11e1-9e33-c80aa9429562:4#5": "00000000-71ca-11e1-9e33-c80aa9429562:4," + serverA + ":23",
		serverA + ":red:23#12,\n" + serverB + ":4#5":               serverA + ":red:23," + serverB + ":4",
	} {
		if got := set(t, ownedSet(text)).String(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestSnapshotOfAnUnknownState: where nothing can be known, nothing is claimed.
func TestSnapshotOfAnUnknownState(t *testing.T) {
	source := envtest.MariaDB(t)
	replica := envtest.MariaDB(t, testenv.MySQLOptions{Fast: true, ReplicaOf: source, Args: []string{"--skip-log-bin"}})
	w := newHistory(t, source)
	run(t, w.db, "CREATE OR REPLACE USER stranger@'%' IDENTIFIED BY 'pw'")
	run(t, w.db, "GRANT SELECT ON "+strings.TrimSuffix(w.table, "counters")+"* TO stranger@'%'")
	w.write(t, 1)
	w.wait(t, envtest.DB(t, replica))
	db, err := sql.Open("mysql", "stranger:pw@tcp("+replica.Addr+")/")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for {
		var n int
		known, err := inSnapshot(t.Context(), db, nil, func(c *sql.Conn) error {
			return c.QueryRowContext(t.Context(), "SELECT SUM(n) FROM "+w.table).Scan(&n)
		})
		if t.Context().Err() != nil || err == nil && n == len(w.gtids) {
			if err != nil || known.least.Empty() || !known.most.Empty() {
				t.Errorf("bounds %v and %v, %v", known.least, known.most, err)
			}
			return
		}
	}
}

func run(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}
