package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// after gets a key by GetAfter and compares the value, and how it was come by.
func after(t *testing.T, c *Client, token Seen, key Key, fill Fill, want string, how Event) Value {
	t.Helper()
	before := c.Stats()
	v, err := c.GetAfter(t.Context(), token, key, time.Minute, fill)
	if err != nil || string(v.Data) != want {
		t.Fatalf("get %s after a token: %q, %v; want %q", key, v.Data, err, want)
	}
	now := c.Stats()
	for _, e := range []Event{Hit, Miss, Awaited, Unreachable, Untrusted} {
		if (now[e] > before[e]) != (e == how) {
			t.Errorf("get %s after a token: %s %d times, want a %s", key, e, now[e]-before[e], how)
		}
	}
	return v
}

func TestGetAfterReadsOwnWrites(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	raw := rdb(t, s)
	own := func(o *Options) { o.Source = sh.table }
	c, other := sh.client(t, s.Addr, own), sh.client(t, s.Addr, own)
	b := board{t, raw, sh.table}
	b.sets(0, 2, "", "")
	b.sets(1, 2, "", "")
	key := item(t, c, 7)
	old := expect(t, c, key, sh.name(7), "name 7")

	run(t, sh.db, "UPDATE "+sh.table+" SET name = 'new' WHERE id = 7")
	token, err := Token(t.Context(), sh.db)
	if err != nil {
		t.Fatal(err)
	}
	mine, _ := token.Set()

	expect(t, c, key, sh.name(7), "name 7") // others may still see it
	after(t, c, token, key, sh.name(7), "new", Awaited)
	after(t, other, token, key, sh.name(7), "new", Awaited)
	after(t, c, old.Token, key, sh.name(7), "name 7", Hit) // it was made after that
	expect(t, c, key, sh.name(7), "name 7")                // nothing was stored

	b.sets(0, 2, mine.String(), "") // one partition is there, but not the one that has the key
	after(t, c, token, key, sh.name(7), "new", Awaited)

	raw.Del(t.Context(), key.String())
	after(t, c, token, key, sh.name(7), "new", Awaited) // deleted, but we cannot know
	expect(t, other, key, sh.name(7), "new")            // somebody fills it
	after(t, c, token, key, sh.name(7), "new", Hit)     // and the value says what it was made from

	raw.Del(t.Context(), key.String())
	b.sets(1, 2, mine.String(), "")
	for !c.covers(t.Context(), mine, "first", 0) && t.Context().Err() == nil { //nolint:revive // until it is known
	}
	after(t, c, token, key, sh.name(7), "new", Miss)
	after(t, c, token, key, sh.name(7), "new", Hit)
	after(t, c, "", key, sh.name(7), "new", Hit)
	if _, err := c.GetAfter(t.Context(), "no token", key, time.Minute, sh.name(7)); !errors.Is(err, ErrSeen) {
		t.Errorf("what is no token: %v", err)
	}
}

// TestGetAfterWithReplicas waits for the second pass, and loads from the primary.
func TestGetAfterWithReplicas(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	raw := rdb(t, s)
	fills := envtest.DB(t, envtest.MySQL(t)) // another pool: in this test of the same server
	c := sh.client(t, s.Addr, func(o *Options) { o.Source, o.Fills = sh.table, fills })
	b := board{t, raw, sh.table}
	key := item(t, c, 7)
	expect(t, c, key, sh.name(7), "name 7")
	run(t, sh.db, "UPDATE "+sh.table+" SET name = 'new' WHERE id = 7")
	token, err := Token(t.Context(), sh.db)
	if err != nil {
		t.Fatal(err)
	}
	set, _ := token.Set()
	after(t, c, token, key, sh.name(7), "new", Awaited) // nobody has posted anything
	b.sets(0, 1, set.String(), "")
	if err := c.WaitInvalidated(t.Context(), token); err != nil {
		t.Error(err)
	}
	after(t, c, token, key, sh.name(7), "new", Awaited) // the first pass does not do
	raw.Del(t.Context(), key.String())
	b.sets(0, 1, set.String(), set.String())
	for !c.covers(t.Context(), set, "second", 0) && t.Context().Err() == nil { //nolint:revive // until it is known
	}
	after(t, c, token, key, sh.name(7), "new", Miss)
}

func TestGetAfterWithoutRedis(t *testing.T) {
	sh := newShelf(t)
	c := sh.client(t, "127.0.0.1:1")
	token, err := Token(t.Context(), sh.db)
	if err != nil {
		t.Fatal(err)
	}
	after(t, c, token, item(t, c, 7), sh.name(7), "name 7", Unreachable)
}

// TestGetAfterWhatIsNotThere: a token of transactions that the primary has lost, or
// has not made visible yet.
func TestGetAfterWhatIsNotThere(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	c := sh.client(t, s.Addr)
	key := item(t, c, 7)
	lost := seen(t, serverA+":1-5")
	start := time.Now()
	if v, err := c.GetAfter(t.Context(), lost, key, time.Minute, sh.name(7)); !errors.Is(err, ErrBehind) {
		t.Errorf("of what is lost: %q, %v", v.Data, err)
	}
	if took := time.Since(start); took < primaryLimit || sh.fills.Load() > 0 {
		t.Errorf("it took %v and %d loads", took, sh.fills.Load())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.GetAfter(ctx, lost, key, time.Minute, sh.name(7)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a deadline: %v", err)
	}

	conn, err := sh.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	late := fmt.Sprintf("%08x-71ca-11e1-9e33-c80aa9429562:1", rand.Uint32())
	var wg sync.WaitGroup
	asked := c.Stats()[Awaited]
	wg.Go(func() {
		v, err := c.GetAfter(t.Context(), seen(t, late), key, time.Minute, sh.name(7))
		if err != nil || string(v.Data) != "late" {
			t.Errorf("of what comes late: %q, %v", v.Data, err)
		}
	})
	if asked != c.Stats()[Awaited] {
		t.Error("it was loaded too early")
	}
	for _, q := range []string{"SET gtid_next='" + late + "'", "UPDATE " + sh.table + " SET name = 'late' WHERE id = 7", "SET gtid_next=AUTOMATIC"} {
		if _, err := conn.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

func TestWaitInvalidated(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	c := sh.client(t, s.Addr, func(o *Options) { o.Source = sh.table })
	b := board{t, rdb(t, s), sh.table}
	token := seen(t, serverA+":1-5")
	fail := func(want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := c.WaitInvalidated(ctx, token); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q in it", err, want)
		}
	}
	fail("does an invalidator run?")
	b.sets(0, 2, serverA+":1-9", "")
	b.sets(1, 2, serverA+":1-4", "")
	fail("partition 1: 1 of these transactions")
	var waiting sync.WaitGroup
	for range 50 {
		waiting.Go(func() {
			if err := c.WaitInvalidated(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	b.sets(1, 2, serverA+":1-5", "")
	waiting.Wait()
	if err := c.WaitInvalidated(t.Context(), ""); err != nil {
		t.Errorf("nothing to wait for: %v", err)
	}
	if err := c.WaitInvalidated(t.Context(), "no token"); !errors.Is(err, ErrSeen) {
		t.Errorf("what is no token: %v", err)
	}
	down := sh.client(t, "127.0.0.1:1")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := down.WaitInvalidated(ctx, token); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "missing: ") {
		t.Errorf("without Redis: %v", err)
	}
}

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
		c := w.clients[rand.IntN(len(w.clients))]
		key := item(t, c, id)
		var v Value
		var err error
		if tokens {
			v, err = c.GetAfter(ctx, seen, key, time.Minute, w.name(id))
		} else {
			v, err = c.Get(ctx, key, time.Minute, w.name(id))
		}
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			break
		}
		n, err := strconv.Atoi(string(v.Data))
		if err != nil {
			t.Error(err)
		}
		if n < newest[id] {
			back.Add(1)
		}
		newest[id] = max(newest[id], n)
		if seen, err = Merge(seen, v.Token); err != nil || v.Token == "" {
			t.Errorf("a value's token is %q: %v", v.Token, err)
		}
	}
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
