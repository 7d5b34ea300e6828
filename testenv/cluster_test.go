package testenv_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestClusterServesAllSlots(t *testing.T) {
	for name, valkey := range map[string]bool{"redis": false, "valkey": true} {
		t.Run(name, func(t *testing.T) {
			c := envtest.RedisCluster(t, testenv.ClusterOptions{Valkey: valkey})
			client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
			defer client.Close()
			for i := range 100 {
				if err := client.Set(t.Context(), fmt.Sprint("k", i), i, 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			for _, m := range c.Masters {
				one := testenv.OpenRedis(m)
				if n, err := one.DBSize(t.Context()).Result(); err != nil || n == 0 {
					t.Errorf("node %s has %d keys, %v", m.Addr, n, err)
				}
				_ = one.Close()
			}
		})
	}
}

func TestClusterFailsOver(t *testing.T) {
	c := envtest.RedisCluster(t, testenv.ClusterOptions{Replicas: 1})
	if err := c.Masters[0].Kill(); err != nil {
		t.Fatal(err)
	}
	replica := testenv.OpenRedis(c.Replicas[0])
	defer replica.Close()
	waitFor(t, "a replica to take over", func() bool {
		role, err := replica.Do(t.Context(), "ROLE").Slice()
		return err == nil && role[0] == "master"
	})
}

func TestSentinelFailsOver(t *testing.T) {
	s := envtest.RedisSentinel(t)
	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: s.Name, SentinelAddrs: s.Addrs()})
	defer client.Close()
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.Master.Kill(); err != nil {
		t.Fatal(err)
	}
	replica := testenv.OpenRedis(s.Replica)
	defer replica.Close()
	waitFor(t, "the replica to take over", func() bool {
		role, err := replica.Do(t.Context(), "ROLE").Slice()
		return err == nil && role[0] == "master"
	})
	waitFor(t, "the client to follow", func() bool { return client.Set(t.Context(), "k", "w", 0).Err() == nil })
	if err := s.Master.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitOK(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// waitFor polls for something that no server announces.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for !done() {
		select {
		case <-limit:
			t.Fatalf("waited 30 s for %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
