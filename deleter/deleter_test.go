package deleter

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestMain(m *testing.M) { envtest.Main(m) }

// memory is a server of the test's own that writes nothing to disk.
var memory = testenv.RedisOptions{Memory: true}

func open(t testing.TB, cfg Config) *Redis {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	return r
}

// plain is a second way to a server, for the test itself.
func plain(t testing.TB, s *testenv.Server) *redis.Client {
	t.Helper()
	c := testenv.OpenRedis(s)
	t.Cleanup(func() { c.Close() }) //nolint:errcheck // a test's client
	return c
}

// set stores keys through any client.
func set(ctx context.Context, c redis.UniversalClient, keys ...string) error {
	for chunk := range slices.Chunk(keys, 5_000) {
		pipe := c.Pipeline()
		for _, k := range chunk {
			pipe.Set(ctx, k, "v", 0)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// left returns those of the keys that exist.
func left(ctx context.Context, c redis.UniversalClient, keys ...string) ([]string, error) {
	var there []string
	for chunk := range slices.Chunk(keys, 5_000) {
		pipe := c.Pipeline()
		cmds := make([]*redis.IntCmd, len(chunk))
		for i, k := range chunk {
			cmds[i] = pipe.Exists(ctx, k)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, err
		}
		for i, cmd := range cmds {
			if cmd.Val() == 1 {
				there = append(there, chunk[i])
			}
		}
	}
	return there, nil
}

func underTest(d pipeline.Deleter, c redis.UniversalClient) pipelinetest.DeleterUnderTest {
	return pipelinetest.DeleterUnderTest{
		Deleter: d,
		Set:     func(ctx context.Context, keys ...string) error { return set(ctx, c, keys...) },
		Left:    func(ctx context.Context, keys ...string) ([]string, error) { return left(ctx, c, keys...) },
	}
}

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

// TestPausedRedis: a frozen server must not hold up a caller for longer than its
// context, whether that has a deadline or is cancelled.
func TestPausedRedis(t *testing.T) {
	s := envtest.Redis(t, memory)
	c := plain(t, s)
	r := open(t, Config{Addrs: []string{s.Addr}})
	keys := []string{"a", "b"}
	if err := errors.Join(set(t.Context(), c, keys...), r.Delete(t.Context(), []string{"warm"}), s.Pause()); err != nil {
		t.Fatal(err)
	}
	for name, with := range map[string]func() (context.Context, context.CancelFunc){
		"deadline": func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 200*time.Millisecond)
		},
		"cancel": func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(200*time.Millisecond, cancel)
			return ctx, cancel
		},
	} {
		for op, f := range map[string]func(context.Context) error{
			"Delete":         func(ctx context.Context) error { return r.Delete(ctx, keys) },
			"DeletePatterns": func(ctx context.Context) error { _, err := r.DeletePatterns(ctx, []string{"a*"}); return err },
		} {
			ctx, cancel := with()
			begin := time.Now()
			err := f(ctx)
			if took := time.Since(begin); err == nil || took > 2*time.Second {
				t.Errorf("%s with %s: %v after %v", op, name, err, took)
			}
			cancel()
		}
	}
	begin := time.Now()
	if err := r.Delete(t.Context(), keys); err == nil || time.Since(begin) > callTimeout+time.Second || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("without a deadline: %v after %v", err, time.Since(begin))
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), keys); err != nil {
		t.Errorf("after it went on: %v", err)
	}
	if there, err := left(t.Context(), c, keys...); err != nil || len(there) > 0 {
		t.Errorf("left %q, %v", there, err)
	}
}

func TestKilledRedis(t *testing.T) {
	s := envtest.Redis(t, testenv.RedisOptions{})
	r := open(t, Config{Addrs: []string{s.Addr}})
	keys := []string{"a", "b"}
	c := plain(t, s)
	if err := errors.Join(set(t.Context(), c, keys...), r.Delete(t.Context(), []string{"warm"}), s.Kill()); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), keys); err == nil {
		t.Error("a dead Redis acknowledged a delete")
	}
	if _, err := r.DeletePatterns(t.Context(), []string{"a*"}); err == nil {
		t.Error("a dead Redis acknowledged a sweep")
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "delete after a restart", func() error { return r.Delete(t.Context(), keys) })
	if there, err := left(t.Context(), c, keys...); err != nil || len(there) > 0 {
		t.Errorf("left %q, %v", there, err)
	}
}

// eventually does what the engine does: it calls again until there is no error.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	begin := time.Now()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("%s: still %v", what, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// TestProtected: a Redis shared with sessions and carts is safe even from a
// caller that names their keys.
func TestProtected(t *testing.T) {
	s := envtest.Redis(t, memory)
	c := plain(t, s)
	var mu sync.Mutex
	var logged strings.Builder
	refused := 0
	r := open(t, Config{
		Addrs: []string{s.Addr}, Protect: []string{"sess:*", "*:cart", "[q-s]ueue"},
		Logger: slog.New(slog.NewTextHandler(&logged, nil)),
		Hooks: pipeline.Hooks{Refused: func(n int) {
			mu.Lock()
			defer mu.Unlock()
			refused += n
		}},
	})
	safe := []string{"sess:1", "sess:", "user:7:cart", "queue", "rueue"}
	stale := []string{"session", "xsess:1", "user:7", "user:7:carts", "item:1", "que"}
	all := append(slices.Clone(safe), stale...)
	for name, remove := range map[string]func() error{
		"Delete":         func() error { return r.Delete(t.Context(), all) },
		"only protected": func() error { return errors.Join(r.Delete(t.Context(), safe), r.Delete(t.Context(), stale)) },
		"DeletePatterns": func() error { _, err := r.DeletePatterns(t.Context(), []string{"*"}); return err },
		"many patterns":  func() error { _, err := r.DeletePatterns(t.Context(), []string{"*", "sess:*"}); return err },
	} {
		refused = 0
		if err := errors.Join(set(t.Context(), c, all...), remove()); err != nil {
			t.Fatal(name, err)
		}
		there, err := left(t.Context(), c, all...)
		if err != nil || !slices.Equal(there, safe) {
			t.Errorf("%s: left %q, %v; want %q", name, there, err, safe)
		}
		if refused != len(safe) {
			t.Errorf("%s: %d keys reported as refused, want %d", name, refused, len(safe))
		}
	}
	if out := logged.String(); strings.Count(out, "protected keys") != 1 || strings.Contains(out, "sess:1") {
		t.Errorf("logged:\n%s", out)
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
