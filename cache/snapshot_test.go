package cache

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
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
				_, err := inSnapshot(t.Context(), db, func(*sql.Conn) error { t.Error("it reads"); return nil })
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
					_, err := inSnapshot(t.Context(), db, func(c *sql.Conn) error {
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

// history is some rows that are counted up, each by its own writer, and what
// readers saw of them.
type history struct {
	db    *sql.DB
	table string

	mu    sync.Mutex
	gtids [4][]string // of each row's writes: [row][n] made it n
	seen  []observation
}

type observation struct {
	bounds
	n [4]int
}

func newHistory(t *testing.T, s *testenv.Server) *history {
	h := &history{db: envtest.DB(t, s), table: envtest.Database(t, s) + ".counters"}
	run(t, h.db, "CREATE TABLE "+h.table+" (id INT PRIMARY KEY, n INT)")
	for i := range h.gtids {
		run(t, h.db, "INSERT INTO "+h.table+" VALUES (?, 0)", i)
		h.gtids[i] = []string{""}
	}
	return h
}

func (h *history) write(t *testing.T, times int) {
	var writers sync.WaitGroup
	for i := range h.gtids {
		writers.Go(func() {
			conn, err := h.db.Conn(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for n := 1; n <= times; n++ {
				id, err := h.writeOne(t.Context(), conn, i, n)
				if err != nil {
					t.Error(err)
					return
				}
				h.mu.Lock()
				h.gtids[i] = append(h.gtids[i], id)
				h.mu.Unlock()
			}
		})
	}
	writers.Wait()
}

// writeOne returns the GTID of its transaction: on MariaDB the server tells it, on
// MySQL we choose it.
func (h *history) writeOne(ctx context.Context, conn *sql.Conn, row, n int) (id string, err error) {
	id = fmt.Sprintf("%08x-71ca-11e1-9e33-c80aa9429562:%d", row, n)
	if _, err := conn.ExecContext(ctx, "SET @n = 0 /*!50700 , gtid_next = '"+id+"' */; UPDATE "+h.table+" SET n = "+strconv.Itoa(n)+" WHERE id = "+strconv.Itoa(row)); err != nil {
		return "", err
	}
	return id, conn.QueryRowContext(ctx, "SELECT /*!50700 '"+id+"' */ /*M! @@last_gtid */").Scan(&id)
}

// wait returns once a reader has the table.
func (h *history) wait(t *testing.T, db *sql.DB) {
	t.Helper()
	for {
		var rows int
		if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+h.table).Scan(&rows); err == nil && rows == len(h.gtids) {
			return
		} else if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

// read looks until done, and on until it has seen everything: if the server tells
// what it shows, it must tell so in the end.
func (h *history) read(t *testing.T, db *sql.DB, tells bool, done <-chan struct{}) {
	for last := false; ; {
		var o observation
		known, err := inSnapshot(t.Context(), db, func(c *sql.Conn) error {
			for i := range o.n {
				if err := c.QueryRowContext(t.Context(), "SELECT n FROM "+h.table+" WHERE id = ?", i).Scan(&o.n[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
			return
		}
		o.bounds = known
		h.mu.Lock()
		h.seen = append(h.seen, o)
		missing := 0
		for _, ids := range h.gtids {
			if id := ids[len(ids)-1]; id != "" && tells && !known.least.Has(id) {
				missing++
			}
		}
		h.mu.Unlock()
		if last && missing == 0 {
			return
		}
		select {
		case <-done:
			last = true
		default:
		}
	}
}

func (h *history) check(t *testing.T) {
	early, late, useful, beyond := 0, 0, 0, 0
	for _, o := range h.seen {
		for i, n := range o.n {
			if n == 0 || n+1 >= len(h.gtids[i]) {
				continue // nothing has been, or was to come
			}
			useful++
			if o.least.Has(h.gtids[i][n+1]) {
				early++
			}
			if !o.most.Has(h.gtids[i][n]) || !o.most.Has(h.gtids[i][n-1]) && n > 1 {
				late++
			}
			if !o.least.Has(h.gtids[i][n]) {
				beyond++ // why a token is not made from the least bound
			}
		}
	}
	t.Logf("%d snapshots, %d useful checks, %d of them show what is not in the least bound", len(h.seen), useful, beyond)
	if early+late > 0 || useful < 100 {
		t.Errorf("of %d checks, %d did not show what is in the least bound, and %d showed more than the most", useful, early, late)
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
		known, err := inSnapshot(t.Context(), db, func(c *sql.Conn) error {
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
