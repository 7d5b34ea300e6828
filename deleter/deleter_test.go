package deleter

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestConformance(t *testing.T) {
	for name, server := range map[string]func(testing.TB, ...testenv.RedisOptions) *testenv.Server{
		"redis": envtest.Redis, "valkey": envtest.Valkey,
	} {
		t.Run(name, func(t *testing.T) {
			s := server(t, memory)
			c := plain(t, s)
			pipelinetest.RunDeleter(t, func(t *testing.T) pipelinetest.DeleterUnderTest {
				if err := c.FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				return underTest(open(t, Config{Addrs: []string{s.Addr}}), c)
			})
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "no address"},
		{Config{Addrs: []string{"a:1"}, Mode: "ring"}, `mode "ring"`},
		{Config{Addrs: []string{"a:1"}, Mode: Sentinel}, "master's name"},
		{Config{Addrs: []string{"a:1", "b:1"}, Mode: Standalone}, "one address"},
		{Config{Addrs: []string{"a:1"}, ScanRate: -1}, "negative"},
	} {
		if _, err := New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New(%+v) = %v, want %q", c.cfg, err, c.want)
		}
	}
}

func TestEveryTypeIsDeleted(t *testing.T) {
	s := envtest.Redis(t, memory)
	c := plain(t, s)
	ctx := t.Context()
	err := errors.Join(
		c.HSet(ctx, "hash", "f", 1).Err(), c.LPush(ctx, "list", 1).Err(), c.SAdd(ctx, "set", 1).Err(),
		c.ZAdd(ctx, "zset", redis.Z{Member: 1}).Err(), c.Set(ctx, "string", 1, time.Hour).Err(),
		c.XAdd(ctx, &redis.XAddArgs{Stream: "stream", Values: []string{"a", "b"}}).Err(),
	)
	if err != nil {
		t.Fatal(err)
	}
	r := open(t, Config{Addrs: []string{s.Addr}})
	if err := r.Delete(ctx, []string{"hash", "list", "set"}); err != nil {
		t.Error(err)
	}
	if n, err := r.DeletePatterns(ctx, []string{"z*", "str*"}); n != 3 || err != nil {
		t.Errorf("DeletePatterns = %d, %v; want 3", n, err)
	}
	if n := c.DBSize(ctx).Val(); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

func TestDB(t *testing.T) {
	s := envtest.Redis(t, memory)
	c := plain(t, s)
	pipe := c.Pipeline()
	pipe.Set(t.Context(), "a", 1, 0)
	pipe.Do(t.Context(), "select", 3)
	pipe.Set(t.Context(), "a", 1, 0)
	pipe.Do(t.Context(), "select", 0)
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := open(t, Config{Addrs: []string{s.Addr}, DB: 3})
	if n, err := r.DeletePatterns(t.Context(), []string{"*"}); n != 1 || err != nil {
		t.Errorf("DeletePatterns = %d, %v", n, err)
	}
	if n := c.Exists(t.Context(), "a").Val(); n != 1 {
		t.Error("a key of database 0 was deleted")
	}
	far := open(t, Config{Addrs: []string{s.Addr}, DB: 99})
	if err := far.Delete(t.Context(), []string{"a"}); err == nil || !strings.Contains(err.Error(), "check redis.db") {
		t.Errorf("database 99: %v", err)
	}
}

func TestObserve(t *testing.T) {
	s := envtest.Redis(t, memory)
	c := plain(t, s)
	d := open(t, Config{Addrs: []string{s.Addr}, Protect: []string{"item:9*"}}).Observe()
	keys := []string{"item:1", "item:2", "item:9", "user:1"}
	if err := errors.Join(set(t.Context(), c, keys...), d.Delete(t.Context(), keys)); err != nil {
		t.Fatal(err)
	}
	if n, err := d.DeletePatterns(t.Context(), []string{"item:*"}); n != 2 || err != nil {
		t.Errorf("DeletePatterns = %d, %v; want 2 that it would delete", n, err)
	}
	if there, err := left(t.Context(), c, keys...); err != nil || len(there) != len(keys) {
		t.Errorf("left %q, %v", there, err)
	}
}
