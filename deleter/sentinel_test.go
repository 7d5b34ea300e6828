package deleter

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func freePort(t *testing.T) string {
	t.Helper()
	_, port, _ := net.SplitHostPort(envtest.FreeAddr(t))
	return port
}

func TestSentinel(t *testing.T) {
	s := envtest.RedisSentinel(t)
	cfg := Config{Addrs: s.Addrs(), Master: s.Name}
	ctx := t.Context()
	t.Run("Conformance", func(t *testing.T) {
		c := plain(t, s.Master)
		pipelinetest.RunDeleter(t, func(t *testing.T) pipelinetest.DeleterUnderTest {
			if err := c.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			return underTest(open(t, cfg), c)
		})
	})
	t.Run("WithoutMaster", func(t *testing.T) {
		err := open(t, Config{Addrs: s.Addrs()}).Delete(ctx, []string{"a"})
		if err == nil || !strings.Contains(err.Error(), "is a Sentinel; set redis.master") {
			t.Error(err)
		}
		wantFinding(t, open(t, Config{Addrs: s.Addrs()[:1], Mode: Standalone}).Preflight(ctx), "refused", "this is a Sentinel", "redis.master")
	})
	t.Run("WrongMaster", func(t *testing.T) {
		wantFinding(t, open(t, Config{Addrs: s.Addrs(), Master: "other"}).Preflight(ctx), "refused", "", "redis.master")
	})
	t.Run("Preflight", func(t *testing.T) {
		wantFinding(t, open(t, cfg).Preflight(ctx), "note", "standalone, master", "")
	})
	t.Run("Replica", func(t *testing.T) {
		r := open(t, Config{Addrs: []string{s.Replica.Addr}})
		wantFinding(t, r.Preflight(ctx), "refused", "this is a replica", "master's address")
		if err := r.Delete(ctx, []string{"a"}); err == nil || !strings.Contains(err.Error(), "this is a replica") {
			t.Error(err)
		}
		if _, err := r.DeletePatterns(ctx, []string{"a*"}); err == nil || !strings.Contains(err.Error(), "not a master") {
			t.Error(err)
		}
	})
	t.Run("Failover", func(t *testing.T) {
		r := open(t, cfg)
		keys := []string{"a", "b", "item:1"}
		if err := errors.Join(r.Delete(ctx, keys), s.Master.Kill()); err != nil {
			t.Fatal(err)
		}
		if err := r.Delete(ctx, keys); err == nil {
			t.Error("a dead master acknowledged a delete")
		}
		promoted := plain(t, s.Replica)
		eventually(t, "promotion", func() error { return promoted.Set(ctx, "a", "v", 0).Err() })
		if err := set(ctx, redis.UniversalClient(promoted), keys...); err != nil {
			t.Fatal(err)
		}
		eventually(t, "delete", func() error { return r.Delete(ctx, []string{"a", "b"}) })
		eventually(t, "sweep", func() error { _, err := r.DeletePatterns(ctx, []string{"item:*"}); return err })
		if there, err := left(ctx, promoted, keys...); err != nil || len(there) > 0 {
			t.Errorf("left %q, %v", there, err)
		}
	})
}
