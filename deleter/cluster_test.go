package deleter

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// clusterClient is a second way to a Cluster.
func clusterClient(t *testing.T, c *testenv.Cluster) *redis.ClusterClient {
	t.Helper()
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs(), MaxRedirects: 8})
	t.Cleanup(func() { client.Close() }) //nolint:errcheck // a test's client
	return client
}

func flush(ctx context.Context, c *redis.ClusterClient) error {
	return c.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return c.FlushAll(ctx).Err() })
}

func TestClusterConformance(t *testing.T) {
	for _, valkey := range []bool{false, true} {
		t.Run(map[bool]string{false: "redis", true: "valkey"}[valkey], func(t *testing.T) {
			cluster := envtest.RedisCluster(t, testenv.ClusterOptions{Valkey: valkey})
			c := clusterClient(t, cluster)
			pipelinetest.RunDeleter(t, func(t *testing.T) pipelinetest.DeleterUnderTest {
				if err := flush(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				// One address is enough: that it is a Cluster, and its other nodes, are found.
				return underTest(open(t, Config{Addrs: cluster.Addrs()[:1]}), c)
			})
		})
	}
}

func TestClusterFailover(t *testing.T) {
	cluster := envtest.RedisCluster(t, testenv.ClusterOptions{Replicas: 1})
	c := clusterClient(t, cluster)
	ctx := t.Context()
	r := open(t, Config{Addrs: cluster.Addrs()})
	keys := make([]string, 3_000)
	for i := range keys {
		keys[i] = "k:" + strconv.Itoa(i)
	}
	if err := errors.Join(set(ctx, c, keys...), r.Delete(ctx, []string{"warm"}), cluster.Masters[0].Kill()); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(ctx, keys); err == nil {
		t.Error("deletes were acknowledged although a master is dead")
	} else {
		t.Log(err)
	}
	if _, err := r.DeletePatterns(ctx, []string{"k:*"}); err == nil {
		t.Error("a sweep was acknowledged although a master is dead")
	} else {
		t.Log(err)
	}
	eventually(t, "delete after the failover", func() error { return r.Delete(ctx, keys) })
	eventually(t, "sweep after the failover", func() error { _, err := r.DeletePatterns(ctx, []string{"k:*"}); return err })
	eventually(t, "look after the failover", func() error {
		c.ReloadState(ctx)
		there, err := left(ctx, c, keys...)
		if len(there) > 0 {
			t.Errorf("%d keys are left", len(there))
		}
		return err
	})
}
