package cache

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestLostReplies: the connection breaks after Redis has run a command. Whatever
// go-redis does in such a case, no request for a lease is sent twice; an earlier
// one that has run is adopted.
func TestLostReplies(t *testing.T) {
	sh := newShelf(t)
	for topology, start := range map[string]func(t *testing.T) []*eater{"standalone": oneEater, "cluster": clusterEaters} {
		t.Run(topology, func(t *testing.T) {
			eaters := start(t)
			c := sh.client(t, eaters[0].Addr().String())
			expect(t, c, item(t, c, 0), sh.name(0), "name 0") // connected, and the slot map is loaded
			for i, test := range []struct {
				what   string
				n      int
				sent   int
				events map[Event]int64
			}{
				{"\r\nnx\r\n", 1, 2, map[Event]int64{Miss: 1, Stored: 1}},
				{"\r\nnx\r\n", 2, 2, map[Event]int64{Unreachable: 1}},
				{"\r\nevalsha\r\n", 1, 1, map[Event]int64{Miss: 1, Unkept: 1}},
			} {
				key := item(t, c, i+1)
				for _, e := range eaters {
					e.eat(test.what, test.n)
				}
				before := c.Stats()
				expect(t, c, key, sh.name(i+1), "name "+strconv.Itoa(i+1))
				for e, n := range c.Stats() {
					if n-before[e] != test.events[e] {
						t.Errorf("%q × %d: %s: %d times, want %d", test.what, test.n, e, n-before[e], test.events[e])
					}
				}
				seen := map[token]bool{}
				for _, e := range eaters {
					for _, lease := range e.leases() {
						if seen[lease] {
							t.Errorf("%q × %d: a lease was asked for twice", test.what, test.n)
						}
						seen[lease] = true
					}
				}
				if len(seen) != test.sent {
					t.Errorf("%q × %d: %d leases were asked for, want %d", test.what, test.n, len(seen), test.sent)
				}
			}
		})
	}
}

// TestPlainCommandsAreRetried shows that the proxy can show a retry: without NoRetry
// go-redis sends a command to a Cluster again.
func TestPlainCommandsAreRetried(t *testing.T) {
	sh := newShelf(t)
	eaters := clusterEaters(t)
	c := sh.client(t, eaters[0].Addr().String())
	key := item(t, c, 1)
	expect(t, c, key, sh.name(1), "name 1")
	for _, e := range eaters {
		e.eat("\r\nnx\r\n", 1)
	}
	conn, err := c.client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cmd := redis.NewCmd(t.Context(), acquire(t.Context(), key, newToken(), time.Minute).Args()...)
	_ = conn.Process(t.Context(), cmd)
	n := 0
	for _, e := range eaters {
		n += len(e.leases())
	}
	if n < 2 {
		t.Errorf("the lease was asked for %d times: this test no longer shows anything", n)
	}
}

func oneEater(t *testing.T) []*eater {
	return []*eater{newEater(t, envtest.Redis(t).Addr)}
}

// clusterEaters starts a Cluster whose nodes are known by their proxies' ports.
func clusterEaters(t *testing.T) (all []*eater) {
	cluster := envtest.RedisCluster(t)
	for _, s := range cluster.Masters {
		e := newEater(t, s.Addr)
		port := e.Addr().String()[strings.LastIndexByte(e.Addr().String(), ':')+1:]
		node := rdb(t, s)
		bus, err := node.ConfigGet(t.Context(), "cluster-port").Result()
		if err := errors.Join(err,
			node.ConfigSet(t.Context(), "cluster-announce-bus-port", bus["cluster-port"]).Err(),
			node.ConfigSet(t.Context(), "cluster-announce-port", port).Err()); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	// Each node must have heard of the others' ports.
	for _, s := range cluster.Masters {
		for node := rdb(t, s); ; time.Sleep(20 * time.Millisecond) {
			//lint:ignore SA1019 the client that is tested asks for CLUSTER SLOTS, so that is what must be right
			slots, err := node.ClusterSlots(t.Context()).Result()
			if err != nil {
				t.Fatal(err)
			}
			known := 0
			for _, slot := range slots {
				for _, e := range all {
					if strings.HasSuffix(e.Addr().String(), slot.Nodes[0].Addr[strings.LastIndexByte(slot.Nodes[0].Addr, ':'):]) {
						known++
					}
				}
			}
			if known == len(slots) && known > 0 {
				break
			}
		}
	}
	return all
}
