package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
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

// writer makes the operations of one connection.
type writer struct {
	ctx  context.Context
	rng  *rand.Rand
	tx   *sql.Tx
	db   string
	base int // of the ids that only this writer inserts
	err  error
}

// do runs a statement; $ stands for the database. After an error the rest of the operation does nothing.
func (w *writer) do(stmt string, args ...any) {
	if w.err == nil {
		_, w.err = w.tx.ExecContext(w.ctx, strings.ReplaceAll(stmt, "$", w.db), args...)
	}
}

func (w *writer) item() int     { return 1 + w.rng.IntN(400) } // shared by all writers
func (w *writer) own() int      { return w.base + w.rng.IntN(900_000) }
func (w *writer) category() any { return w.maybe(w.rng.IntN(20)) }

// maybe returns v, or now and then NULL.
func (w *writer) maybe(v any) any {
	if w.rng.IntN(8) == 0 {
		return nil
	}
	return v
}

func choose[T any](w *writer, of []T) T { return of[w.rng.IntN(len(of))] }

var statuses = []string{"draft", "on_sale", "sold, out", "it's"}

// hostile are texts that must neither forge a key nor change its slot.
var hostile = []string{
	"", " ", "a:b", "{a}", "}{", "{", "}", "line\nbreak", "tab\tand\rreturn", "nul\x00byte", "%41", "%", "*", "item:[a-z]?", `back\slash`, `"quoted"`,
	"it's", "Grün", "Ελληνικά", "漢字", "🙂 face", "\u0085", "\u00a0", "\ufeff", "\ufffe", "\U0001ffff", "\u202eright to left", "all", "!null", "%-", "%~", "a/b#c",
	strings.Repeat("x", 199), strings.Repeat("x", 201), strings.Repeat("ü", 100), strings.Repeat("ü", 101), strings.Repeat("{", 67), strings.Repeat("long ", 100),
}

func (w *writer) hostile() string {
	s := choose(w, hostile)
	if w.rng.IntN(3) > 0 {
		s += fmt.Sprint(w.rng.IntN(50)) + choose(w, hostile)
	}
	if r := []rune(s); len(r) > 600 {
		s = string(r[:600])
	}
	return s
}

func (w *writer) short() string {
	r := []rune(w.hostile())
	return string(r[:min(len(r), 70)])
}

func (w *writer) price() string { return fmt.Sprintf("%d.%02d", w.rng.IntN(40), w.rng.IntN(100)) }

func (w *writer) insertItem(id int) {
	w.do("INSERT INTO $.item VALUES (?,?,?,?,?,?)", id, w.category(), w.maybe(w.short()), w.price(), choose(w, statuses), w.maybe("note"))
}

// operation does something; keep is false where it is to be rolled back.
func (w *writer) operation() (keep bool, err error) {
	ops := []func(){
		func() { w.insertItem(w.item()) },
		func() { w.insertItem(w.own()) },
		func() { w.do("UPDATE $.item SET price = ? WHERE id = ?", w.price(), w.item()) },
		func() {
			w.do("UPDATE $.item SET category = ?, status = ? WHERE id = ?", w.category(), choose(w, statuses), w.item())
		},
		func() { w.do("UPDATE $.item SET sku = ? WHERE id = ?", w.maybe(w.short()), w.item()) },
		func() { w.do("UPDATE $.item SET note = ? WHERE id = ?", w.short(), w.item()) }, // no key column
		func() { w.do("UPDATE $.item SET note = note WHERE id < 50") },                  // changes nothing
		func() { w.do("UPDATE $.item SET id = ? WHERE id = ?", w.own(), w.item()) },
		func() {
			w.do("UPDATE $.item SET price = price + 1, status = ? WHERE id BETWEEN ? AND ?", choose(w, statuses), w.item(), w.item())
		},
		func() { w.do("DELETE FROM $.item WHERE id = ?", w.item()) },
		func() { w.do("DELETE FROM $.item WHERE category = ? LIMIT 5", w.rng.IntN(20)) },
		func() {
			w.do("REPLACE INTO $.item VALUES (?,?,?,?,?,?)", w.item(), w.category(), w.short(), w.price(), choose(w, statuses), nil)
		},
		func() {
			w.do("INSERT INTO $.item VALUES (?,?,?,?,?,?) ON DUPLICATE KEY UPDATE price = VALUES(price), sku = VALUES(sku)",
				w.item(), w.category(), w.short(), w.price(), "draft", nil)
		},
		w.order, w.order, w.savepoints, w.account, w.account, w.kind, w.kind, w.kind, w.event,
		func() { w.do("INSERT INTO $.audit (what) VALUES (?)", w.hostile()) }, // no rule is about it
		func() { w.do("UPDATE $.bulk SET grp = grp + 1 WHERE id BETWEEN ? AND ? + 20", w.item(), w.item()) },
	}
	choose(w, ops)()
	if w.rng.IntN(12) == 0 { // several in one transaction
		choose(w, ops)()
		choose(w, ops)()
	}
	return w.rng.IntN(12) > 0, w.err
}

// order writes several tables in one transaction.
func (w *writer) order() {
	id, user := w.own(), w.rng.IntN(200)
	w.do("INSERT INTO $.orders VALUES (?,?,?)", id, user, w.price())
	for n := range 1 + w.rng.IntN(5) {
		w.do("INSERT INTO $.order_line VALUES (?,?,?,?)", id, n, w.item(), 1)
	}
	w.do("INSERT INTO $.audit (what) VALUES ('order')")
	switch w.rng.IntN(4) {
	case 0: // another user, and another number: a parent and its lines
		w.do("UPDATE $.orders o JOIN $.order_line l ON l.order_id = o.id SET o.user_id = ?, l.amount = l.amount + 1 WHERE o.id = ?", user+1, id)
	case 1:
		w.do("DELETE o, l FROM $.orders o JOIN $.order_line l ON l.order_id = o.id WHERE o.id = ?", id)
	case 2:
		w.do("UPDATE $.order_line SET line_no = line_no + 10 WHERE order_id = ? ORDER BY line_no DESC", id)
	}
}

// savepoints undoes a part of a transaction.
func (w *writer) savepoints() {
	w.insertItem(w.own())
	w.do("SAVEPOINT a")
	w.insertItem(w.own())
	w.do("UPDATE $.item SET category = 99 WHERE id < 20")
	w.do("ROLLBACK TO SAVEPOINT a")
	w.insertItem(w.own())
}

// account has hostile text in keys, as primary key too.
func (w *writer) account() {
	switch w.rng.IntN(3) {
	case 0:
		w.do("INSERT INTO $.account VALUES (?,?,?)", w.hostile(), w.maybe(w.short()), w.maybe(fmt.Sprintf("2024-0%d-03 04:05:06.%03d", 1+w.rng.IntN(9), w.rng.IntN(1000))))
	case 1:
		w.do("UPDATE $.account SET name = ? WHERE name <> '' ORDER BY joined LIMIT 1", w.hostile())
	case 2:
		w.do("UPDATE $.account SET ref = ? WHERE name = ?", w.maybe(w.short()), w.hostile())
	}
}

func (w *writer) event() {
	w.do("INSERT INTO $.ev_01 VALUES (?,?)", w.own(), w.rng.IntN(5))
	w.do("INSERT INTO $.ev_02 SELECT id, kind + 1 FROM $.ev_01 ORDER BY id DESC LIMIT 2 ON DUPLICATE KEY UPDATE kind = 9")
}

var (
	bigIDs  = []uint64{0, 1, 127, 128, 1 << 31, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	signed  = []int64{0, -1, 1, -128, 127, -8388608, 8388607, -1 << 31, -1 << 63, 1<<63 - 1}
	latin   = []string{"", "café", "ÿþß", "plain", "a b", "¿%?"}
	bytes6  = []string{"\x00\x00\x00\x00\x00\x00", "\x01\x00\x02\x00\x00\x00", "abcdef", "\xff\xfe{}\x00\x00", "\x00"}
	decimal = []string{"0", "-0.000001", "12.5", "-99999999999999.999999", "99999999999999.999999", "0.1", "-1"}
	clocks  = []string{"00:00:00", "-00:00:00.5", "838:59:59", "-838:59:59", "23:59:59.9", "-12:34:56.7"}
	stamps  = []string{"1970-01-01 00:00:01", "2024-02-29 23:59:59.99", "2038-01-19 03:14:07", "2000-01-01 00:00:00.5"}
	days    = []string{"0001-01-01", "1000-01-01", "2024-02-29", "9999-12-31"}
	times3  = []string{"1000-01-01 00:00:00", "2024-02-29 12:00:00.001", "9999-12-31 23:59:59.999", "2024-01-01 00:00:00.5"}
)

// kind covers every type that can be in a key.
func (w *writer) kind() {
	id := choose(w, bigIDs) ^ uint64(w.rng.IntN(40))
	values := []any{
		w.maybe([]byte(choose(w, bytes6))), w.maybe(w.bytes()), w.maybe(choose(w, []string{"a", "b'c", "d:e", ""})),
		w.maybe(choose(w, []string{"", "x", "x,w", "x,y z,w", "w"})), w.maybe(choose(w, decimal)), w.maybe(choose(w, times3)), w.maybe(choose(w, stamps)),
		w.maybe(choose(w, days)), w.maybe(choose(w, clocks)), w.maybe(choose(w, []int{0, 1901, 2024, 2155})), w.maybe(w.rng.IntN(1024)),
		w.maybe(w.rng.IntN(256) - 128), w.maybe(w.rng.IntN(256)), w.maybe(max(-8388608, min(8388607, choose(w, signed)))), w.maybe(choose(w, signed)),
		w.maybe(w.hostile()), w.maybe(choose(w, latin)), w.maybe(choose(w, []string{"", "ab", "ab  ", "it's {x}", "漢字"})), "padding",
	}
	switch w.rng.IntN(4) {
	case 0, 1:
		w.do("REPLACE INTO $.kinds VALUES (?"+strings.Repeat(",?", len(values))+")", append([]any{id}, values...)...)
	case 2:
		i := w.rng.IntN(len(kindColumns))
		w.do("UPDATE $.kinds SET "+kindColumns[i]+" = ?, padding = 'x' WHERE id = ?", values[i], id)
	case 3:
		w.do("DELETE FROM $.kinds WHERE id = ?", id)
	}
}

// bytes are seldom valid UTF-8.
func (w *writer) bytes() []byte {
	b := make([]byte, w.rng.IntN(41))
	for i := range b {
		b[i] = byte(w.rng.IntN(256))
	}
	return b
}
