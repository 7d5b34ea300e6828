package cache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestLeaseModel plays random orders of what can happen to one key, on a real
// Redis: requests for leases, stores and deletes run in any order, replies are lost,
// stores run twice. A value must not be stored if a delete has run since its lease
// (I7), so that none is older than the last delete. That this can fail is shown by
// requests for leases that run twice, as a client library's retries would make them.
func TestLeaseModel(t *testing.T) {
	for name, start := range map[string]func(testing.TB, ...testenv.RedisOptions) *testenv.Server{"redis": envtest.Redis, "valkey": envtest.Valkey} {
		t.Run(name, func(t *testing.T) {
			sh := newShelf(t)
			c := sh.client(t, start(t).Addr)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			stored := 0
			for i := range uint64(400) {
				g := &game{t: t, c: c, key: item(t, c, int(i)), rnd: rand.New(rand.NewPCG(seed, i))}
				if wrong := g.play(); wrong != "" {
					t.Fatalf("game %d: %s", i, wrong)
				}
				stored += g.stored
			}
			if stored < 200 {
				t.Errorf("only %d values were stored: the games show little", stored)
			}
			for i := range uint64(5000) {
				g := &game{t: t, c: c, key: item(t, c, int(i)), rnd: rand.New(rand.NewPCG(seed, i)), twice: true}
				if wrong := g.play(); wrong != "" {
					t.Logf("with requests for leases that run twice, in game %d: %s", i, wrong)
					return
				}
			}
			t.Error("requests for leases that run twice break nothing: the games show nothing")
		})
	}
}

// game is one order of steps.
type game struct {
	t     *testing.T
	c     *Client
	key   Key
	rnd   *rand.Rand
	twice bool // requests for leases may run a second time

	row, deleted int         // version of the row, and the one that the last delete followed
	wire         []func()    // sent, and not run yet
	fillers      [3]gameFill // who fill
	stored       int
}

// gameFill is one filler's state.
type gameFill struct {
	tokens []token
	read   int // the version in its snapshot, 0: none yet
	lease  token
	busy   bool // waits for a reply
}

func (g *game) play() (wrong string) {
	for range 60 {
		switch n := g.rnd.IntN(10); {
		case n == 0:
			g.row++
			row := g.row
			g.wire = append(g.wire, func() {
				g.c.run(g.t.Context(), unlink(g.t.Context(), g.key))
				g.deleted = max(g.deleted, row)
			})
		case n < 5:
			g.step(&g.fillers[g.rnd.IntN(len(g.fillers))])
		case len(g.wire) > 0:
			i := g.rnd.IntN(len(g.wire))
			run := g.wire[i]
			g.wire = append(g.wire[:i:i], g.wire[i+1:]...)
			run()
		}
		cmd := get(g.t.Context(), g.key)
		g.c.run(g.t.Context(), cmd)
		e, err := cmd.entry()
		if err != nil {
			g.t.Fatal(err)
		}
		if e.kind == valued {
			if v, _ := strconv.Atoi(string(e.data)); v < g.deleted {
				return fmt.Sprintf("version %d is in the cache after the delete that followed version %d", v, g.deleted)
			}
		}
	}
	return ""
}

// step lets a filler do what it does next.
func (g *game) step(f *gameFill) {
	switch {
	case f.busy && g.rnd.IntN(4) > 0:
	case f.lease == token{}: // asks, perhaps after a time-out
		t := newToken()
		f.tokens, f.busy = append(f.tokens, t), true
		lost := g.rnd.IntN(3) == 0
		run := func() {
			cmd := acquire(g.t.Context(), g.key, t, time.Minute)
			g.c.run(g.t.Context(), cmd)
			e, err := cmd.entry()
			if err != nil {
				g.t.Fatal(err)
			}
			if lost || !f.waitsFor(t) {
				return
			}
			f.busy = false
			switch {
			case e.kind == absent:
				f.lease = t
			case e.kind == leased && f.asked(e.token):
				f.lease = e.token
			default:
				f.tokens = nil
			}
		}
		g.wire = append(g.wire, run)
		if g.twice {
			g.wire = append(g.wire, run)
		}
	case f.read == 0:
		f.read = g.row + 1 // so that 0 is none
	default:
		lease, version := f.lease, f.read-1
		*f = gameFill{}
		run := func() {
			b, _ := entry{kind: valued, data: strconv.AppendInt(nil, int64(version), 10)}.marshal()
			s := store(g.key, lease, b, time.Minute)
			g.c.runScripts(g.t.Context(), s)
			if done, err := s.done(); err != nil {
				g.t.Fatal(err)
			} else if done {
				g.stored++
			}
		}
		g.wire = append(g.wire, run, run)
	}
}

// waitsFor reports whether the filler still waits for the reply to this request: it
// is the last one.
func (f *gameFill) waitsFor(t token) bool {
	return f.busy && len(f.tokens) > 0 && f.tokens[len(f.tokens)-1] == t
}

func (f *gameFill) asked(t token) bool {
	for _, own := range f.tokens {
		if own == t {
			return true
		}
	}
	return false
}

// TestNeverOlder runs whole clients against writers that delete after each commit,
// with replies that are lost and a Redis that stalls for longer than the clients
// wait, so that commands run late. No Get may return what is older than a delete
// that was acknowledged before it began.
func TestNeverOlder(t *testing.T) {
	s, sh := envtest.Redis(t, testenv.RedisOptions{Memory: true}), newShelf(t)
	raw := rdb(t, s)
	e := newEater(t, s.Addr)
	short := func(o *Options) { o.RedisTimeout, o.Wait, o.MaxLoads = 100*time.Millisecond, 20*time.Millisecond, 1000 }
	clients := []*Client{sh.client(t, e.Addr().String(), short), sh.client(t, s.Addr, short)}
	const rows = 4
	run(t, sh.db, "UPDATE "+sh.table+" SET name = '0'")
	var floor [rows]atomic.Int64
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	sum := func(e Event) int64 { return clients[0].Stats()[e] + clients[1].Stats()[e] }
	enough := func() bool { return sum(Hit) > 200 && sum(Revoked) > 10 && sum(Unreachable) > 50 }
	var wg sync.WaitGroup
	var gets atomic.Int64
	for i := range 12 {
		wg.Go(func() {
			for ctx.Err() == nil {
				c, id := clients[i%2], rand.IntN(rows)
				at := floor[id].Load()
				v, err := sh.slowly(t, ctx, c, id, rows)
				if err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					continue
				}
				gets.Add(1)
				if n, _ := strconv.ParseInt(string(v.Data), 10, 64); n < at {
					t.Errorf("version %d of row %d, after the delete that followed version %d", n, id, at)
				}
			}
		})
	}
	for id := range rows {
		wg.Go(func() {
			key := item(t, clients[0], id).String()
			for n := int64(1); ctx.Err() == nil; n++ {
				if _, err := sh.db.ExecContext(ctx, fmt.Sprintf("UPDATE %s SET name = '%d' WHERE id = %d", sh.table, n, id)); err != nil {
					break
				}
				if deleted(ctx, raw, key) {
					floor[id].Store(n)
				}
				time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond) // between writes
			}
		})
	}
	wg.Go(func() {
		for begun := time.Now(); time.Since(begun) < 3*time.Second || !enough() && ctx.Err() == nil; {
			e.eat([]string{"\r\nnx\r\n", "\r\nevalsha\r\n", "\r\nget\r\n"}[rand.IntN(3)], 1+rand.IntN(3))
			time.Sleep(300 * time.Millisecond) // between faults
			if err := s.Pause(); err != nil {
				t.Error(err)
			}
			time.Sleep(120 * time.Millisecond) // the stall
			if err := s.Resume(); err != nil {
				t.Error(err)
			}
		}
		end()
	})
	wg.Wait()
	t.Logf("%d gets: %d hits, %d fills, of which %d were revoked and %d not answered; %d past the cache",
		gets.Load(), sum(Hit), sum(Miss), sum(Revoked), sum(Unkept), sum(Unreachable)+sum(Busy))
	if !enough() {
		t.Error("hits, revoked fills and outages must all be there for this to show anything")
	}
}

// slowly gets an item by itself, or one time in three among others.
func (sh *shelf) slowly(t *testing.T, ctx context.Context, c *Client, id, rows int) (Value, error) {
	work := func() { time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond) } // a fill's own
	if rand.IntN(3) > 0 {
		return c.Get(ctx, item(t, c, id), time.Minute, then(sh.name(id), work))
	}
	ids := rand.Perm(rows)
	all, err := c.GetMany(ctx, list(t, c, ids...), time.Minute, func(ctx context.Context, q Querier, missing []Key) (map[Key][]byte, error) {
		got, err := sh.names(new([]int))(ctx, q, missing)
		work()
		return got, err
	})
	if err != nil {
		return Value{}, err
	}
	return all[slices.Index(ids, id)], nil
}

// deleted deletes a key until Redis has acknowledged it.
func deleted(ctx context.Context, c *redis.Client, key string) bool {
	for ctx.Err() == nil {
		if c.Unlink(ctx, key).Err() == nil {
			return true
		}
	}
	return false
}
