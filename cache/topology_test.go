package cache

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// servedAgain gets keys until one is stored; each Get on the way must succeed.
func (sh *shelf) servedAgain(t *testing.T, c *Client) {
	t.Helper()
	stored, until := c.Stats()[Stored], time.Now().Add(30*time.Second)
	for id := 5000; c.Stats()[Stored] == stored; id++ {
		if time.Now().After(until) {
			t.Fatalf("the cache is not used again: %v", c.Stats())
		}
		expect(t, c, item(t, c, id), sh.name(1), "name 1")
	}
}

func TestSentinel(t *testing.T) {
	s, sh := envtest.RedisSentinel(t), newShelf(t)
	c := sh.client(t, "", func(o *Options) {
		o.Redis = Redis{Addrs: s.Addrs(), Master: s.Name}
		o.RedisTimeout = 200 * time.Millisecond
	})
	sh.servedAgain(t, c)
	if err := s.Master.Kill(); err != nil {
		t.Fatal(err)
	}
	sh.servedAgain(t, c)
	if c.Stats()[Unreachable] == 0 {
		t.Error("the master's death was not noticed")
	}
	if n, err := rdb(t, s.Replica).DBSize(t.Context()).Result(); err != nil || n == 0 {
		t.Errorf("the promoted replica holds %d keys, %v", n, err)
	}
}

func TestCluster(t *testing.T) {
	for _, valkey := range []bool{false, true} {
		t.Run(map[bool]string{false: "redis", true: "valkey"}[valkey], func(t *testing.T) {
			cluster, sh := envtest.RedisCluster(t, testenv.ClusterOptions{Valkey: valkey}), newShelf(t)
			c := sh.client(t, cluster.Addrs()[0]) // one address is enough
			var list []Key
			for id := range 20 {
				list = append(list, item(t, c, id))
			}
			var asked []int
			for range 2 {
				got, err := c.GetMany(t.Context(), list, time.Minute, sh.names(&asked))
				if err != nil {
					t.Fatal(err)
				}
				for i, v := range got {
					if want := fmt.Sprintf("name %d", i); string(v.Data) != want {
						t.Errorf("%q, want %q", v.Data, want)
					}
				}
			}
			expect(t, c, list[3], sh.name(3), "name 3")
			counted(t, c, map[Event]int64{Miss: 20, Stored: 20, Hit: 21})
		})
	}
}

// TestClusterSlotMoves: keys are found on either side while their slot moves, and
// after it has moved, one by one and in batches.
func TestClusterSlotMoves(t *testing.T) {
	cluster, sh := envtest.RedisCluster(t), newShelf(t)
	c := sh.client(t, cluster.Addrs()[0])
	var list []Key
	for id := range 3 {
		k, err := c.Key("tagged", id) // all in one slot
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, k)
	}
	slot := keySlot(t, cluster, list[0])
	owner := slot * len(cluster.Masters) / 16384
	from, to := cluster.Masters[owner], cluster.Masters[(owner+1)%len(cluster.Masters)]
	fromID, toID := rdb(t, from).ClusterMyID(t.Context()).Val(), rdb(t, to).ClusterMyID(t.Context()).Val()
	do := func(s *testenv.Server, args ...any) {
		t.Helper()
		if err := rdb(t, s).Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	many := func(want int64) {
		t.Helper()
		var asked []int
		before := c.Stats()
		got, err := c.GetMany(t.Context(), list, time.Minute, sh.names(&asked))
		if err != nil || len(got) != 3 {
			t.Fatal(got, err)
		}
		if n := c.Stats(); n[Stored]-before[Stored] != want || n[Unreachable] != 0 {
			t.Errorf("%d stored, want %d; %d unreachable", n[Stored]-before[Stored], want, n[Unreachable])
		}
	}
	expect(t, c, list[0], sh.name(1), "name 1")
	do(to, "cluster", "setslot", slot, "importing", fromID)
	do(from, "cluster", "setslot", slot, "migrating", toID)
	expect(t, c, list[1], sh.name(1), "name 1") // stored on the other side
	host, port, _ := strings.Cut(to.Addr, ":")
	do(from, "migrate", host, port, "", 0, 5000, "replace", "keys", list[0].String())
	many(1)
	many(0)
	for _, s := range []*testenv.Server{to, from} {
		do(s, "cluster", "setslot", slot, "node", toID)
	}
	many(0)
	do(to, "unlink", list[1].String())
	many(1)
	expect(t, c, list[1], sh.name(-1), "name 1") // what the batch stored
}

func keySlot(t *testing.T, c *testenv.Cluster, k Key) int {
	t.Helper()
	n, err := rdb(t, c.Masters[0]).ClusterKeySlot(t.Context(), k.String()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// TestClusterFailover: one master of three dies. Its keys are loaded past the cache
// until its replica takes over; the others' keys are served all the time.
func TestClusterFailover(t *testing.T) {
	cluster, sh := envtest.RedisCluster(t, testenv.ClusterOptions{
		Replicas: 1, Args: []string{"--cluster-require-full-coverage", "no"}, // else no master serves until all slots are
	}), newShelf(t)
	c := sh.client(t, cluster.Addrs()[0], func(o *Options) { o.RedisTimeout = 200 * time.Millisecond })
	const dead = 0
	var lost, kept Key
	for id := 0; lost.rule == nil || kept.rule == nil; id++ {
		if k := item(t, c, id); keySlot(t, cluster, k)*len(cluster.Masters)/16384 == dead {
			lost = k
		} else {
			kept = k
		}
	}
	for _, k := range []Key{lost, kept} {
		expect(t, c, k, sh.name(1), "name 1")
	}
	raw := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()[1:]})
	t.Cleanup(func() { _ = raw.Close() })
	if err := cluster.Masters[dead].Kill(); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(30 * time.Second); ; {
		before := c.Stats()
		expect(t, c, kept, sh.name(1), "name 1")
		if c.Stats()[Hit] != before[Hit]+1 {
			t.Errorf("a key of a living master was not served from the cache: %v", c.Stats())
		}
		expect(t, c, lost, sh.name(1), "name 1")
		if n := c.Stats(); n[Hit]+n[Stored] >= before[Hit]+before[Stored]+2 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("the dead master's keys are never served again: %v", c.Stats())
		}
	}
	if err := raw.Get(t.Context(), lost.String()).Err(); errors.Is(err, redis.Nil) {
		t.Error("nothing is stored on the replica that took over")
	}
	if c.Stats()[Unreachable] == 0 {
		t.Error("the master's death was not noticed")
	}
}
