package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// trips records what a client sends: "3 get" is three commands in one round trip.
type trips struct {
	mu  sync.Mutex
	all []string
}

func (*trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.add(cmd)
		return next(ctx, cmd)
	}
}

func (r *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		r.add(cmds...)
		return next(ctx, cmds)
	}
}

func (r *trips) add(cmds ...redis.Cmder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name := cmds[0].Name(); name != "hello" { // of a new connection
		r.all = append(r.all, fmt.Sprintf("%d %s", len(cmds), name))
	}
}

// take returns what was sent since the last take.
func (r *trips) take() (sent []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent, r.all = r.all, nil
	return sent
}

func list(t *testing.T, c *Client, ids ...int) (all []Key) {
	t.Helper()
	for _, id := range ids {
		all = append(all, item(t, c, id))
	}
	return all
}

// TestGetManyAfter counts round trips, fills and events while some of the keys are
// new enough and others are not.
func TestGetManyAfter(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	raw, sent := rdb(t, s), &trips{}
	own := func(o *Options) { o.Source = sh.table }
	c, other := sh.client(t, s.Addr, own), sh.client(t, s.Addr, own)
	b := board{t, raw, sh.table}
	five := list(t, c, 3, 4, 5, 3, 1000)
	before, err := Token(t.Context(), sh.db)
	if err != nil {
		t.Fatal(err)
	}
	var asked []int
	if _, err := c.GetMany(t.Context(), five, time.Minute, sh.names(&asked)); err != nil {
		t.Fatal(err)
	}
	(*c.conn.Load()).AddHook(sent)
	run(t, sh.db, "UPDATE "+sh.table+" SET name = 'new' WHERE id = 4")
	token, err := Token(t.Context(), sh.db)
	if err != nil {
		t.Fatal(err)
	}
	set, _ := token.Set()

	known := &progressAnswer{at: time.Now().Add(-time.Second)}
	steps := func(what string, token Seen, trips []string, fills []int, events map[Event]int64) {
		t.Helper()
		asked = nil
		was := c.Stats()
		sent.take()
		got, err := c.GetManyAfter(t.Context(), token, five, time.Minute, sh.names(&asked))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for i, want := range []string{"name 3", "new", "name 5", "name 3", ""} {
			if string(got[i].Data) != want || got[i].Found != (want != "") || got[i].Token == "" {
				if i != 1 || token != before {
					t.Errorf("%s: %s: %+v, want %q", what, five[i], got[i], want)
				}
			}
		}
		if now := sent.take(); !slices.Equal(now, trips) || !slices.Equal(asked, fills) {
			t.Errorf("%s: sent %q and filled %v, want %q and %v", what, now, asked, trips, fills)
		}
		now := c.Stats()
		for e := range now {
			now[e] -= was[e]
		}
		maps.DeleteFunc(now, func(_ Event, n int64) bool { return n == 0 })
		if !maps.Equal(now, events) {
			t.Errorf("%s: %v, want %v", what, now, events)
		}
	}
	c.progress.last.Store(known)
	steps("all are new enough", before, []string{"4 get"}, nil, map[Event]int64{Hit: 4})
	steps("nobody has posted anything", token, []string{"4 get", "1 hgetall"}, []int{4}, map[Event]int64{Awaited: 4})

	raw.Del(t.Context(), five[1].String())
	expect(t, other, five[1], sh.name(4), "new") // another process fills it
	c.progress.last.Store(known)
	steps("one is new enough", token, []string{"4 get", "1 hgetall"}, []int{3}, map[Event]int64{Hit: 1, Awaited: 3})

	raw.Del(t.Context(), five[2].String())
	b.sets(0, 1, set.String(), "")
	c.progress.last.Store(known)
	steps("the invalidators turn out to be past it", token, []string{"4 get", "1 hgetall", "3 get", "1 set", "1 evalsha"}, []int{1},
		map[Event]int64{Hit: 3, Miss: 1, Stored: 1})
	steps("they are known to be", token, []string{"4 get"}, nil, map[Event]int64{Hit: 4})
	steps("no token", "", []string{"4 get"}, nil, map[Event]int64{Hit: 4})

	if none, err := c.GetManyAfter(t.Context(), token, nil, time.Minute, nil); err != nil || len(none) > 0 {
		t.Errorf("no keys: %v, %v", none, err)
	}
	if _, err := c.GetManyAfter(t.Context(), "no token", five, time.Minute, nil); !errors.Is(err, ErrSeen) {
		t.Errorf("what is no token: %v", err)
	}
	if another, err := c.Key("other", 1); err != nil {
		t.Fatal(err)
	} else if _, err := c.GetManyAfter(t.Context(), token, []Key{five[0], another}, time.Minute, nil); err == nil || !strings.Contains(err.Error(), "one rule") {
		t.Errorf("keys of two rules: %v", err)
	}
}

// TestGetManyAfterOnCluster: each node is looked at in one round trip.
func TestGetManyAfterOnCluster(t *testing.T) {
	cluster, sh := envtest.RedisCluster(t), newShelf(t)
	c := sh.client(t, cluster.Addrs()[0], func(o *Options) { o.Source = sh.table })
	all := list(t, c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
	var asked []int
	if _, err := c.GetMany(t.Context(), all, time.Minute, sh.names(&asked)); err != nil {
		t.Fatal(err)
	}
	run(t, sh.db, "UPDATE "+sh.table+" SET name = 'new' WHERE id < 10")
	token, err := Token(t.Context(), sh.db)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var nodes []*trips
	conn := (*c.conn.Load()).(*redis.ClusterClient)
	if err := conn.ForEachMaster(t.Context(), func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, &trips{})
		node.AddHook(nodes[len(nodes)-1])
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	c.progress.last.Store(&progressAnswer{at: time.Now().Add(-time.Second)})
	asked = nil
	got, err := c.GetManyAfter(t.Context(), token, all, time.Minute, sh.names(&asked))
	if err != nil || !slices.Equal(asked, []int{20}) {
		t.Errorf("%v; fills of %v keys", err, asked)
	}
	for i, v := range got {
		if want := map[bool]string{true: "new", false: fmt.Sprintf("name %d", i)}[i < 10]; string(v.Data) != want {
			t.Errorf("%s: %q, want %q", all[i], v.Data, want)
		}
	}
	questions := 0
	for _, n := range nodes {
		sent := n.take()
		questions += len(sent) - 1
		if len(sent) == 0 || !strings.HasSuffix(sent[0], " get") || len(sent) == 2 && sent[1] != "1 hgetall" {
			t.Errorf("to one node: %q", sent)
		}
	}
	if questions != 1 {
		t.Errorf("the watermarks were asked for %d times", questions)
	}
}

// TestGetManyPastIsOneLoad: however many keys are loaded past the cache, it is one
// of MaxLoads, a panic gives the place back, and Close waits.
func TestGetManyPastIsOneLoad(t *testing.T) {
	sh := newShelf(t)
	c := sh.client(t, "127.0.0.1:1", func(o *Options) { o.MaxLoads = 1 })
	five := list(t, c, 1, 2, 3, 4, 1000)
	now, err := Token(t.Context(), sh.db)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []Seen{"", now} {
		var asked []int
		before := c.Stats()
		got, err := c.GetManyAfter(t.Context(), token, five, time.Minute, func(ctx context.Context, q Querier, missing []Key) (map[Key][]byte, error) {
			if _, err := c.GetManyAfter(ctx, token, five[:1], time.Minute, sh.names(&asked)); !errors.Is(err, ErrTooManyLoads) {
				t.Errorf("a second load: %v", err)
			}
			return sh.names(&asked)(ctx, q, missing)
		})
		if err != nil || len(got) != 5 || string(got[3].Data) != "name 4" || got[4].Found || !slices.Equal(asked, []int{5}) {
			t.Errorf("%+v, %v; fills of %v keys", got, err, asked)
		}
		after := c.Stats()
		if after[Unreachable]-before[Unreachable] != 6 || after[Overload]-before[Overload] != 1 {
			t.Errorf("%v", after)
		}
		func() {
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "a fill's own") {
					t.Errorf("recovered %v", p)
				}
			}()
			_, err := c.GetManyAfter(t.Context(), token, five, time.Minute, func(context.Context, Querier, []Key) (map[Key][]byte, error) { panic("a fill's own") })
			t.Errorf("no panic but %v", err)
		}()
	}
	started, goOn := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	loaded := false
	wg.Go(func() {
		if _, err := c.GetManyAfter(t.Context(), now, five, time.Minute, func(context.Context, Querier, []Key) (map[Key][]byte, error) {
			close(started)
			<-goOn
			loaded = true
			return nil, nil
		}); err != nil {
			t.Error(err)
			close(started)
		}
	})
	<-started
	time.AfterFunc(50*time.Millisecond, func() { close(goOn) })
	if err := c.Close(); err != nil || !loaded {
		t.Errorf("Close: %v, it has waited: %v", err, loaded)
	}
	wg.Wait()
	for _, token := range []Seen{"", now} {
		if _, err := c.GetManyAfter(t.Context(), token, five, time.Minute, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}
