package cache

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestReadsNeverGoBack: users read counters that others write, through two processes
// whose fills read a replica that lags, stops and goes on. Nobody sees an older
// value than one he has seen, or than the one he wrote. The same users without
// tokens do, so the test can see it.
func TestReadsNeverGoBack(t *testing.T) {
	source := envtest.MySQL(t, testenv.MySQLOptions{Fast: true})
	replica := envtest.MySQL(t, testenv.MySQLOptions{Fast: true, ReplicaOf: source, Args: []string{"--replica-parallel-workers=4"}})
	w := newCrowd(t, source, replica, envtest.Redis(t))
	t.Run("without tokens", func(t *testing.T) {
		back, reads := w.run(t, false, func(back, _ int64) bool { return back >= 5 })
		t.Logf("%d reads went back, of %d", back, reads)
	})
	t.Run("with tokens", func(t *testing.T) {
		back, reads := w.run(t, true, func(_, reads int64) bool { return reads >= 1000 })
		t.Logf("%d reads; %v", reads, w.clients[0].Stats())
		if back > 0 {
			t.Errorf("%d of %d reads went back", back, reads)
		}
	})
}

// crowd is users, and what there is between them and the rows.
type crowd struct {
	*shelf
	clients [2]*Client
	board   board
	replica *testenv.Server
}

func newCrowd(t *testing.T, source, replica, redis *testenv.Server) *crowd {
	sh := newShelfOn(t, source)
	run(t, sh.db, "UPDATE "+sh.table+" SET name = '0'")
	w := &crowd{shelf: sh, board: board{t, rdb(t, redis), sh.table}, replica: replica}
	fills := envtest.DB(t, replica)
	for i := range w.clients {
		w.clients[i] = sh.client(t, redis.Addr, func(o *Options) { o.Source, o.Fills = sh.table, fills })
	}
	all, err := executed(t.Context(), sh.db)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.until(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	return w
}

// until waits until the replica shows a set.
func (w *crowd) until(ctx context.Context, set gtid.Set) error {
	_, err := w.clients[0].o.Fills.ExecContext(ctx, "DO WAIT_FOR_EXECUTED_GTID_SET('"+set.String()+"')")
	return err
}

// run lets users read until it is enough.
func (w *crowd) run(t *testing.T, tokens bool, enough func(back, reads int64) bool) (back, reads int64) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg, users sync.WaitGroup
	var backs, all atomic.Int64
	for range 6 {
		users.Go(func() {
			defer cancel() // also where something fails
			w.user(ctx, t, tokens, &backs, func() bool { return enough(backs.Load(), all.Add(1)) })
		})
	}
	wg.Go(func() { w.lag(ctx, t) })
	wg.Go(func() { w.invalidate(ctx, t) })
	users.Wait()
	wg.Wait()
	return backs.Load(), all.Load()
}

// user reads and writes until it is enough, or ctx ends.
func (w *crowd) user(ctx context.Context, t *testing.T, tokens bool, back *atomic.Int64, enough func() bool) {
	var seen Seen
	var newest [3]int // of each counter
	for ctx.Err() == nil && !enough() {
		id := rand.IntN(len(newest))
		if rand.IntN(10) == 0 {
			n, token, err := w.write(ctx, id)
			if err != nil {
				break
			}
			newest[id] = n
			if seen, err = Merge(seen, token); err != nil {
				t.Error(err)
			}
		}
		seen = w.read(ctx, t, tokens, seen, id, &newest, back)
	}
}

// read reads a counter, or all of them at once, and returns what the user has seen
// then.
func (w *crowd) read(ctx context.Context, t *testing.T, tokens bool, seen Seen, id int, newest *[3]int, back *atomic.Int64) Seen {
	c, token, ids := w.clients[rand.IntN(len(w.clients))], Seen(""), []int{id}
	if tokens {
		token = seen
	}
	var values []Value
	var err error
	if rand.IntN(3) == 0 {
		ids = []int{0, 1, 2}
		values, err = c.GetManyAfter(ctx, token, list(t, c, ids...), time.Minute, w.names(new([]int)))
	} else {
		values = make([]Value, 1)
		values[0], err = c.GetAfter(ctx, token, item(t, c, id), time.Minute, w.name(id))
	}
	if err != nil {
		if ctx.Err() == nil {
			t.Error(err)
		}
		return seen
	}
	for i, v := range values {
		n, err := strconv.Atoi(string(v.Data))
		if err != nil {
			t.Error(err)
		}
		if n < newest[ids[i]] {
			back.Add(1)
		}
		newest[ids[i]] = max(newest[ids[i]], n)
		if seen, err = Merge(seen, v.Token); err != nil || v.Token == "" {
			t.Errorf("a value's token is %q: %v", v.Token, err)
		}
	}
	return seen
}

// write counts one row up, and returns what it is then.
func (w *crowd) write(ctx context.Context, id int) (n int, token Seen, err error) {
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	if _, err = conn.ExecContext(ctx, "UPDATE "+w.table+" SET name = @n := name + 1 WHERE id = ?", id); err != nil {
		return 0, "", err
	}
	if err = conn.QueryRowContext(ctx, "SELECT @n").Scan(&n); err != nil {
		return 0, "", err
	}
	token, err = Token(ctx, conn)
	return n, token, err
}

// lag stops and starts the replica's appliers.
func (w *crowd) lag(ctx context.Context, t *testing.T) {
	db := envtest.DB(t, w.replica)
	for sleep(ctx, time.Duration(rand.IntN(200))*time.Millisecond) {
		_, _ = db.ExecContext(ctx, "STOP REPLICA SQL_THREAD")
		sleep(ctx, time.Duration(rand.IntN(300))*time.Millisecond)
		if _, err := db.ExecContext(t.Context(), "START REPLICA SQL_THREAD"); err != nil {
			t.Error(err)
		}
	}
}

// invalidate does what the pipeline does, with one partition: the first pass deletes
// what the source shows, the second what the replica shows as well.
func (w *crowd) invalidate(ctx context.Context, t *testing.T) {
	var first, second string
	var mu sync.Mutex
	pass := func(wait bool, posted *string) {
		for sleep(ctx, time.Millisecond) {
			set, err := executed(ctx, w.db)
			if err == nil && wait {
				err = w.until(ctx, set)
			}
			for id := range 3 {
				if err == nil {
					err = w.board.raw.Unlink(ctx, item(t, w.clients[0], id).String()).Err()
				}
			}
			if err != nil {
				if ctx.Err() == nil {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			*posted = set.String()
			w.board.sets(0, 1, first, second)
			mu.Unlock()
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { pass(false, &first) })
	wg.Go(func() { pass(true, &second) })
	wg.Wait()
}
