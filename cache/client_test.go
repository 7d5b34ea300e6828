package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestGet(t *testing.T) {
	for name, start := range map[string]func(testing.TB, ...testenv.RedisOptions) *testenv.Server{"redis": envtest.Redis, "valkey": envtest.Valkey} {
		t.Run(name, func(t *testing.T) {
			s, sh := start(t), newShelf(t)
			c, raw := sh.client(t, s.Addr), rdb(t, s)
			key := item(t, c, 7)

			first := expect(t, c, key, sh.name(7), "name 7")
			again := expect(t, c, key, sh.name(7), "name 7")
			if sh.fills.Load() != 1 || first.Token == "" || first.Token != again.Token {
				t.Errorf("%d fills, tokens %q and %q", sh.fills.Load(), first.Token, again.Token)
			}
			counted(t, c, map[Event]int64{Miss: 1, Stored: 1, Hit: 1})
			if ttl := raw.PTTL(t.Context(), key.String()).Val(); ttl < 50*time.Second || ttl > 66*time.Second {
				t.Errorf("the value lives for %v", ttl)
			}

			run(t, sh.db, "UPDATE "+sh.table+" SET name = 'new' WHERE id = 7")
			expect(t, c, key, sh.name(7), "name 7") // nobody has deleted it yet
			raw.Del(t.Context(), key.String())
			expect(t, c, key, sh.name(7), "new")

			none := item(t, c, 1000)
			expect(t, c, none, sh.name(1000), "")
			fills := sh.fills.Load()
			expect(t, c, none, sh.name(1000), "")
			if sh.fills.Load() != fills {
				t.Error("that there is no row was not cached")
			}
			if ttl := raw.PTTL(t.Context(), none.String()).Val(); ttl > 33*time.Second {
				t.Errorf("that there is no row is kept for %v", ttl)
			}
			if b, _ := raw.Get(t.Context(), key.String()).Bytes(); !bytes.HasPrefix(b, []byte("\x00dt1V")) {
				t.Errorf("a stray GET reads %q", b)
			}
		})
	}
}

func TestKeyRefusesPlainRules(t *testing.T) {
	sh := newShelf(t)
	c := sh.client(t, "127.0.0.1:1")
	if _, err := c.Key("plain", 7); !errors.Is(err, ErrPlain) {
		t.Errorf("a plain rule: %v", err)
	}
	if _, err := c.Key("itme", 7); err == nil || !strings.Contains(err.Error(), `"item"`) {
		t.Errorf("an unknown rule: %v", err)
	}
	if _, err := c.Get(t.Context(), Key{}, time.Minute, sh.name(7)); err == nil {
		t.Error("a key that no schema made")
	}
	if _, err := c.Get(t.Context(), item(t, c, 7), 0, sh.name(7)); err == nil {
		t.Error("a ttl of nothing")
	}
}

// TestRevoked: a delete between lease and store, and what is not stored then.
func TestRevoked(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	c, raw := sh.client(t, s.Addr), rdb(t, s)
	for i, del := range []string{"DEL", "UNLINK"} {
		key := item(t, c, i)
		expect(t, c, key, then(sh.name(i), func() { raw.Do(t.Context(), del, key.String()) }), fmt.Sprintf("name %d", i))
		if n := raw.Exists(t.Context(), key.String()).Val(); n != 0 {
			t.Errorf("after %s: the fill was stored", del)
		}
	}
	counted(t, c, map[Event]int64{Miss: 2, Revoked: 2})
	// Another filler's lease is not ours either.
	key := item(t, c, 2)
	expect(t, c, key, then(sh.name(2), func() { raw.Set(t.Context(), key.String(), newToken().lease(), time.Minute) }), "name 2")
	if b, _ := raw.Get(t.Context(), key.String()).Bytes(); parseEntry(b).kind != leased {
		t.Errorf("the other's lease was overwritten: %q", b)
	}
}

func TestStampede(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	all := []*Client{sh.client(t, s.Addr), sh.client(t, s.Addr)} // as two processes
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			c := all[i%2]
			v, err := c.Get(t.Context(), item(t, c, 3), time.Minute, then(sh.name(3), func() { time.Sleep(50 * time.Millisecond) }))
			if err != nil || string(v.Data) != "name 3" {
				t.Errorf("%q, %v", v.Data, err)
			}
			if len(v.Data) > 0 {
				v.Data[0] = 'X' // it is this caller's own
			}
		})
	}
	wg.Wait()
	if n := sh.fills.Load(); n != 1 {
		t.Errorf("%d fills, want 1", n)
	}
}

// TestBusy: another process fills for longer than anybody waits.
func TestBusy(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	c, raw := sh.client(t, s.Addr, func(o *Options) { o.Wait = 20 * time.Millisecond }), rdb(t, s)
	key := item(t, c, 4)
	lease := newToken().lease()
	raw.Set(t.Context(), key.String(), lease, time.Minute)
	expect(t, c, key, sh.name(4), "name 4")
	counted(t, c, map[Event]int64{Waited: 1, Busy: 1})
	if b, _ := raw.Get(t.Context(), key.String()).Bytes(); !bytes.Equal(b, lease) {
		t.Errorf("the key now holds %q", b)
	}
	// It ends while somebody waits: the one who waits takes over.
	c = sh.client(t, s.Addr, func(o *Options) {
		o.OnEvent = func(_ string, e Event) {
			if e == Waited {
				raw.Del(t.Context(), key.String())
			}
		}
	})
	expect(t, c, item(t, c, 4), sh.name(4), "name 4")
	counted(t, c, map[Event]int64{Waited: 1, Miss: 1, Stored: 1})
}

func TestForeign(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	c, raw := sh.client(t, s.Addr), rdb(t, s)
	key := item(t, c, 5)
	for i, put := range []func(){
		func() { raw.Set(t.Context(), key.String(), "text of somebody else", 0) },
		func() { raw.Set(t.Context(), key.String(), "", 0) },
		func() { raw.Set(t.Context(), key.String(), "\x00dt1L too short", 0) },
		func() { raw.Set(t.Context(), key.String(), "\x00dt1V\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 0) },
		func() { raw.Set(t.Context(), key.String(), "\x00dt1V\x02\x09\x09x", 0) },
		func() { raw.Set(t.Context(), key.String(), "\x00dt1N\x00x", 0) },
		func() { raw.Set(t.Context(), key.String(), "\x00dt2V\x00x", 0) },
		func() { raw.HSet(t.Context(), key.String(), "f", "v") },
	} {
		raw.Del(t.Context(), key.String())
		put()
		expect(t, c, key, sh.name(5), "name 5")
		expect(t, c, key, sh.name(5), "name 5")
		n := int64(i + 1)
		counted(t, c, map[Event]int64{Foreign: n, Miss: n, Stored: n, Hit: n})
	}
}

// TestFailedFill: an error or a panic is the caller's, and leaves no lease behind.
func TestFailedFill(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	c, raw := sh.client(t, s.Addr), rdb(t, s)
	key, wrong := item(t, c, 6), errors.New("wrong")
	if _, err := c.Get(t.Context(), key, time.Minute, func(context.Context, Querier) ([]byte, error) { return nil, wrong }); !errors.Is(err, wrong) {
		t.Errorf("%v", err)
	}
	func() {
		defer func() {
			if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "a fill's own") {
				t.Errorf("recovered %v", p)
			}
		}()
		_, err := c.Get(t.Context(), key, time.Minute, func(context.Context, Querier) ([]byte, error) { panic("a fill's own") })
		t.Errorf("no panic but %v", err)
	}()
	if n := raw.Exists(t.Context(), key.String()).Val(); n != 0 {
		t.Error("a lease is left")
	}
	// Rows that a fill leaves open do not spoil the connection.
	for range 3 {
		if _, err := c.Get(t.Context(), key, time.Minute, func(ctx context.Context, q Querier) ([]byte, error) {
			_, err := q.QueryContext(ctx, "SELECT * FROM "+sh.table) //nolint:rowserrcheck,sqlclosecheck // on purpose
			return nil, errors.Join(err, wrong)
		}); !errors.Is(err, wrong) {
			t.Error(err)
		}
	}
	expect(t, c, key, sh.name(6), "name 6")
}

// TestCallersLeave: a fill goes on while anybody waits for it, and no longer.
func TestCallersLeave(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	c := sh.client(t, s.Addr)
	key := item(t, c, 8)
	started, release := make(chan struct{}), make(chan struct{})
	slow := func(ctx context.Context, q Querier) ([]byte, error) {
		close(started)
		select {
		case <-release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return sh.name(8)(ctx, q)
	}
	ctx, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Get(ctx, key, time.Minute, slow); !errors.Is(err, context.Canceled) {
			t.Errorf("the first caller: %v", err)
		}
	})
	<-started
	joined := make(chan struct{})
	wg.Go(func() {
		close(joined)
		expect(t, c, key, sh.name(-1), "name 8")
	})
	<-joined
	for c.waiting(key) < 2 {
		time.Sleep(time.Millisecond) // until it waits
	}
	leave()
	for c.waiting(key) > 1 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()

	key = item(t, c, 9)
	started, release = make(chan struct{}), make(chan struct{})
	ctx, leave = context.WithCancel(t.Context())
	wg.Go(func() { _, _ = c.Get(ctx, key, time.Minute, slow) })
	<-started
	leave()
	wg.Wait()
	expect(t, c, key, sh.name(9), "name 9") // at once: its lease was given up
}

// waiting counts who waits for fills under leases.
func (c *Client) waiting(Key) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cl := range c.flights {
		n += cl.waiting
	}
	return n
}

func TestJitter(t *testing.T) {
	for _, d := range []time.Duration{time.Millisecond, time.Hour, math.MaxInt64} {
		for range 100 {
			if got := jitter(d); got < time.Millisecond || got < d/3 || got > d/8*9 && d < math.MaxInt64 {
				t.Fatalf("%v becomes %v", d, got)
			}
		}
	}
}
