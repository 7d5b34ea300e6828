package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// getter is a way to ask for a key after a token.
type getter func(c *Client, ctx context.Context, token Seen, key Key, ttl time.Duration, fill Fill) (Value, error)

var getters = map[string]getter{
	"one": (*Client).GetAfter,
	"many": func(c *Client, ctx context.Context, token Seen, key Key, ttl time.Duration, fill Fill) (Value, error) {
		all, err := c.GetManyAfter(ctx, token, []Key{key, key}, ttl, func(ctx context.Context, q Querier, missing []Key) (map[Key][]byte, error) {
			if len(missing) != 1 || missing[0] != key {
				return nil, fmt.Errorf("asked to fill %v", missing)
			}
			data, err := fill(ctx, q)
			return map[Key][]byte{key: data}, err
		})
		if err != nil {
			return Value{}, err
		}
		if len(all[0].Data) > 0 {
			all[0].Data[0]++ // each is the caller's own
		}
		return all[1], nil
	},
}

// eachGetter runs a test with each of them, one after the other: a value's token also
// has what others are committing, which the value does not surely show.
func eachGetter(t *testing.T, test func(t *testing.T, get getter)) {
	for name, get := range getters {
		t.Run(name, func(t *testing.T) { test(t, get) })
	}
}

// after gets a key after a token and compares the value, and how it was come by.
func (get getter) after(t *testing.T, c *Client, token Seen, key Key, fill Fill, want string, how Event) {
	t.Helper()
	before := c.Stats()
	v, err := get(c, t.Context(), token, key, time.Minute, fill)
	if err != nil || string(v.Data) != want {
		t.Fatalf("get %s after a token: %q, %v; want %q", key, v.Data, err, want)
	}
	now := c.Stats()
	for _, e := range []Event{Hit, Miss, Awaited, Unreachable, Untrusted} {
		if n := now[e] - before[e]; n != map[bool]int64{e == how: 1}[true] {
			t.Errorf("get %s after a token: %s %d times, want a %s", key, e, n, how)
		}
	}
}

func TestGetAfterReadsOwnWrites(t *testing.T) { eachGetter(t, testReadsOwnWrites) }

func testReadsOwnWrites(t *testing.T, get getter) {
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
	get.after(t, c, token, key, sh.name(7), "new", Awaited)
	get.after(t, other, token, key, sh.name(7), "new", Awaited)
	get.after(t, c, old.Token, key, sh.name(7), "name 7", Hit) // it was made after that
	expect(t, c, key, sh.name(7), "name 7")                    // nothing was stored

	b.sets(0, 2, mine.String(), "") // one partition is there, but not the one that has the key
	get.after(t, c, token, key, sh.name(7), "new", Awaited)

	raw.Del(t.Context(), key.String())
	get.after(t, c, token, key, sh.name(7), "new", Awaited) // deleted, but we cannot know
	expect(t, other, key, sh.name(7), "new")                // somebody fills it
	get.after(t, c, token, key, sh.name(7), "new", Hit)     // and the value says what it was made from

	raw.Del(t.Context(), key.String())
	b.sets(1, 2, mine.String(), "")
	for !c.covers(t.Context(), mine, "first", 0) && t.Context().Err() == nil { //nolint:revive // until it is known
	}
	get.after(t, c, token, key, sh.name(7), "new", Miss)
	get.after(t, c, token, key, sh.name(7), "new", Hit)
	get.after(t, c, "", key, sh.name(7), "new", Hit)
	if _, err := get(c, t.Context(), "no token", key, time.Minute, sh.name(7)); !errors.Is(err, ErrSeen) {
		t.Errorf("what is no token: %v", err)
	}
}

// TestGetAfterWithReplicas waits for the second pass, and loads from the primary.
func TestGetAfterWithReplicas(t *testing.T) { eachGetter(t, testWithReplicas) }

func testWithReplicas(t *testing.T, get getter) {
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
	get.after(t, c, token, key, sh.name(7), "new", Awaited) // nobody has posted anything
	b.sets(0, 1, set.String(), "")
	if err := c.WaitInvalidated(t.Context(), token); err != nil {
		t.Error(err)
	}
	get.after(t, c, token, key, sh.name(7), "new", Awaited) // the first pass does not do
	raw.Del(t.Context(), key.String())
	b.sets(0, 1, set.String(), set.String())
	for !c.covers(t.Context(), set, "second", 0) && t.Context().Err() == nil { //nolint:revive // until it is known
	}
	get.after(t, c, token, key, sh.name(7), "new", Miss)
}

func TestGetAfterWithoutRedis(t *testing.T) {
	for _, start := range []startSQL{envtest.MySQL, envtest.MariaDB} {
		sh := newShelfOn(t, start(t))
		c := sh.client(t, "127.0.0.1:1")
		token, err := Token(t.Context(), sh.db)
		if err != nil {
			t.Fatal(err)
		}
		for _, get := range getters {
			get.after(t, c, token, item(t, c, 7), sh.name(7), "name 7", Unreachable)
		}
	}
}

// TestGetAfterWhatIsNotThere: a token of transactions that the primary has lost, or
// has not made visible yet.
func TestGetAfterWhatIsNotThere(t *testing.T) { eachGetter(t, testNotThere) }

func testNotThere(t *testing.T, get getter) {
	t.Parallel() // it waits for most of its time
	s, sh := envtest.Redis(t), newShelf(t)
	c := sh.client(t, s.Addr)
	key := item(t, c, 7)
	lost := seen(t, serverA+":1-5")
	start := time.Now()
	if v, err := get(c, t.Context(), lost, key, time.Minute, sh.name(7)); !errors.Is(err, ErrBehind) {
		t.Errorf("of what is lost: %q, %v", v.Data, err)
	}
	if took := time.Since(start); took < primaryLimit || sh.fills.Load() > 0 {
		t.Errorf("it took %v and %d loads", took, sh.fills.Load())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := get(c, ctx, lost, key, time.Minute, sh.name(7)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a deadline: %v", err)
	}

	conn, err := sh.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	late := fmt.Sprintf("%08x-71ca-11e1-9e33-c80aa9429562:1", rand.Uint32())
	var wg sync.WaitGroup
	var ended atomic.Bool
	wg.Go(func() {
		defer ended.Store(true)
		v, err := get(c, t.Context(), seen(t, late), key, time.Minute, sh.name(7))
		if err != nil || string(v.Data) != "late" {
			t.Errorf("of what comes late: %q, %v", v.Data, err)
		}
	})
	slots := c.slots[key.rule]
	for polls, on := 0, false; polls < 4 && !ended.Load(); runtime.Gosched() { // attempts that begin and end, and between them nobody has a place
		if was := on; was != (len(slots) > 0) {
			on, polls = !was, polls+1
		}
	}
	if sh.fills.Load() > 0 {
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

// TestSlowWatermarksAreShared: however long an answer takes, one is for all that
// came before it was asked for.
func TestSlowWatermarksAreShared(t *testing.T) {
	sh, p := newShelf(t), oneEater(t)[0]
	c := sh.client(t, p.Addr().String())
	if _, err := c.state(t.Context(), time.Hour); err != nil { // connects
		t.Fatal(err)
	}
	p.delay.Store(int64(200 * time.Millisecond))
	p.eat("nothing", 0)
	time.Sleep(askAgain) // what is known is too old
	const callers = 20
	var waiting sync.WaitGroup
	for range callers {
		waiting.Go(func() {
			if _, err := c.state(t.Context(), askAgain); err != nil {
				t.Error(err)
			}
		})
	}
	waiting.Wait()
	if n := p.count("hgetall"); n == 0 || n > callers/4 {
		t.Errorf("%d callers asked %d times", callers, n)
	}
}
