package integration

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// workload writes all kinds of changes from several connections at a time. What it did is for the binlog to say.
type workload struct {
	r       *rig
	writers int
	ops     int           // per writer; 0 goes on until the context ends
	pause   time.Duration // between a writer's transactions
	patient bool          // the server may go away: go on when it is back
	heavy   bool          // now and then a transaction of thousands of rows

	done    atomic.Int64 // transactions that were tried
	applied atomic.Int64 // of which so many succeeded

	mu     sync.Mutex
	begins map[string]int64 // MariaDB: GTID → µs before COMMIT was sent
}

// run blocks until all writers are done.
func (w *workload) run(ctx context.Context) {
	w.r.t.Helper()
	var wg sync.WaitGroup
	for i := range w.writers {
		wg.Go(func() {
			rng := newRand(w.r.seed, uint64(i)+100)
			for n := 0; (w.ops == 0 || n < w.ops) && ctx.Err() == nil; n++ {
				if err := w.transaction(ctx, &writer{rng: rng, base: (i + 1) * 1_000_000}); err != nil && ctx.Err() == nil {
					w.r.t.Errorf("workload: %v", err)
					return
				}
				if w.pause > 0 {
					select {
					case <-time.After(w.pause):
					case <-ctx.Done():
					}
				}
			}
		})
	}
	wg.Wait()
}

// inBackground runs the workload until stop is called, which returns when it has ended.
func (w *workload) inBackground(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.run(ctx)
	}()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			<-ended
		})
	}
	t.Cleanup(stop)
	return stop
}

// transaction runs one operation in a transaction of its own.
func (w *workload) transaction(ctx context.Context, wr *writer) error {
	w.done.Add(1)
	err := w.try(ctx, wr)
	var my *mysql.MySQLError
	switch {
	case err == nil:
		w.applied.Add(1)
		return nil
	case errors.As(err, &my) && (my.Number == 1062 || my.Number == 1213 || my.Number == 1205):
		return nil // a duplicate, a deadlock or a lock wait: rolled back
	case w.patient:
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
		return nil
	}
	return err
}

func (w *workload) try(ctx context.Context, wr *writer) error {
	conn, err := w.r.sql.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	last, err := w.lastGTID(ctx, conn)
	if err != nil {
		return err
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	wr.ctx, wr.tx, wr.db = ctx, tx, w.r.db
	keep := true
	if w.heavy && wr.rng.IntN(20) == 0 {
		wr.do(bulkInsert, 20_000_000+wr.own()*10, 1+wr.rng.IntN(5000))
		err = wr.err
	} else {
		keep, err = wr.operation()
	}
	if err != nil || !keep {
		return errors.Join(err, tx.Rollback())
	}
	before := time.Now().UnixMicro()
	if err := tx.Commit(); err != nil {
		return err
	}
	gtid, err := w.lastGTID(ctx, conn)
	if err != nil || gtid == last { // it has written nothing
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begins[gtid] = before
	return nil
}

// lastGTID is the GTID of the connection's last transaction, where MariaDB's are recorded.
func (w *workload) lastGTID(ctx context.Context, conn *sql.Conn) (gtid string, err error) {
	if w.begins == nil {
		return "", nil
	}
	err = conn.QueryRowContext(ctx, "SELECT @@last_gtid").Scan(&gtid)
	return gtid, err
}

// bulk writes rows in one transaction.
func (w *workload) bulk(from, rows int) {
	w.r.t.Helper()
	if _, err := w.r.sql.ExecContext(w.r.t.Context(), strings.ReplaceAll(bulkInsert, "$", w.r.db), from, rows); err != nil {
		w.r.t.Fatal(err)
	}
}

const (
	digits = "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)"
	// bulkInsert takes the first id and the number of rows, up to 100,000.
	bulkInsert = "INSERT INTO $.bulk SELECT ? + n, n % 500, 'padding that no rule wants' FROM (SELECT a.d + 10*b.d + 100*c.d + 1000*e.d + 10000*f.d AS n FROM " +
		digits + " a, " + digits + " b, " + digits + " c, " + digits + " e, " + digits + " f) s WHERE n < ?"
)
