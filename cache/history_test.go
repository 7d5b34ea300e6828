package cache

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

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
		known, err := inSnapshot(t.Context(), db, nil, func(c *sql.Conn) error {
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
