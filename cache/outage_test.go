package cache

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// gauge counts what runs at a time.
type gauge struct{ now, max atomic.Int64 }

func (g *gauge) enter() {
	n := g.now.Add(1)
	for m := g.max.Load(); n > m && !g.max.CompareAndSwap(m, n); m = g.max.Load() {
	}
}

func (g *gauge) leave() { g.now.Add(-1) }

// TestOutage takes Redis away under load, by freezing it and by killing it: MySQL
// must not see more than MaxLoads loads at a time, and callers must not wait for
// Redis. DOUBLETAP_LONG=1 makes it 30 s instead of 5.
func TestOutage(t *testing.T) {
	length := 5 * time.Second
	if os.Getenv("DOUBLETAP_LONG") != "" {
		length = 30 * time.Second
	}
	for how, do := range map[string]struct{ off, on func(*testenv.Server) error }{
		"frozen": {(*testenv.Server).Pause, (*testenv.Server).Resume},
		"killed": {(*testenv.Server).Kill, func(s *testenv.Server) error { return s.Start(context.Background()) }},
	} {
		t.Run(how, func(t *testing.T) {
			const maxLoads, callers, rows = 8, 50, 200
			s, sh := envtest.Redis(t, testenv.RedisOptions{}), newShelf(t)
			c := sh.client(t, s.Addr, func(o *Options) { o.RedisTimeout, o.Wait, o.MaxLoads = 0, 0, maxLoads })
			token, err := Token(t.Context(), sh.db)
			if err != nil {
				t.Fatal(err)
			}
			tokens := []Seen{"", token, seen(t, serverA+":1-5")} // "": a plain Get
			var loads gauge
			fill := func(ctx context.Context, q Querier) ([]byte, error) {
				loads.enter()
				defer loads.leave()
				var none int
				return []byte("v"), q.QueryRowContext(ctx, "SELECT SLEEP(0.01)").Scan(&none)
			}
			for id := range rows {
				expect(t, c, item(t, c, id), fill, "v")
			}
			loads.max.Store(0)

			var down atomic.Bool
			var mu sync.Mutex
			var times []time.Duration
			ctx, end := context.WithCancel(t.Context())
			defer end()
			var wg sync.WaitGroup
			for i := range callers {
				token := tokens[i%len(tokens)]
				lost := token == tokens[2] // the primary will never show it
				get := getters[[]string{"one", "many"}[i%2]]
				wg.Go(func() {
					for ctx.Err() == nil {
						start, was := time.Now(), down.Load()
						_, err := get(c, ctx, token, item(t, c, rand.IntN(rows)), time.Minute, fill)
						if took := time.Since(start); !lost && was && down.Load() {
							mu.Lock()
							times = append(times, took)
							mu.Unlock()
						}
						if err == nil == lost && !errors.Is(err, ErrTooManyLoads) && !(lost && errors.Is(err, ErrBehind)) && ctx.Err() == nil {
							t.Errorf("get: %v", err)
						}
						time.Sleep(20 * time.Millisecond) // the load, not a wait
					}
				})
			}
			threads, conns := threadsRunning(t, ctx, &wg, sh, &down)
			if err := do.off(s); err != nil {
				t.Fatal(err)
			}
			down.Store(true)
			time.Sleep(length) // the outage
			down.Store(false)
			if err := do.on(s); err != nil {
				t.Fatal(err)
			}
			most := loads.max.Load()
			hits := c.Stats()[Hit]
			for c.Stats()[Hit] < hits+100 {
				time.Sleep(10 * time.Millisecond) // until the cache is used again
			}
			end()
			wg.Wait()

			slices.Sort(times)
			p50, p99 := times[len(times)/2], times[len(times)*99/100]
			n := c.Stats()
			t.Logf("%d calls in %v without Redis: p50 %v, p99 %v; at most %d loads (allowed %d), %d MySQL threads running, %d connections in use; %d refused",
				len(times), length, p50, p99, most, maxLoads, threads.max.Load(), conns.max.Load(), n[Overload])
			if most > maxLoads || n[Unreachable] == 0 || n[Overload] == 0 {
				t.Errorf("at most %d loads at a time, allowed %d; %d bypasses, %d refused", most, maxLoads, n[Unreachable], n[Overload])
			}
			if m := threads.max.Load(); m > maxLoads+6 { // the asker, the server's own, other tests
				t.Errorf("%d threads of MySQL were running", m)
			}
			if m := conns.max.Load(); m > maxLoads+1 { // the asker
				t.Errorf("%d connections were in use", m)
			}
			if p50 > 50*time.Millisecond {
				t.Errorf("half of the calls took more than %v: do they wait for Redis?", p50)
			}
		})
	}
}

// threadsRunning samples MySQL's own gauge until ctx ends, and while Redis is down
// the connections that are in use.
func threadsRunning(t *testing.T, ctx context.Context, wg *sync.WaitGroup, sh *shelf, down *atomic.Bool) (threads, conns *gauge) {
	threads, conns = &gauge{}, &gauge{}
	wg.Go(func() {
		for ctx.Err() == nil {
			var name string
			var n int64
			if err := sh.db.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Threads_running'").Scan(&name, &n); err == nil {
				threads.max.Store(max(n, threads.max.Load()))
			} else if ctx.Err() == nil {
				t.Error(err)
			}
			time.Sleep(20 * time.Millisecond) // between samples
		}
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			if was, n := down.Load(), int64(sh.db.Stats().InUse); was && down.Load() {
				conns.max.Store(max(n, conns.max.Load()))
			}
			time.Sleep(time.Millisecond) // between samples
		}
	})
	return threads, conns
}
