package deleter

import (
	"context"
	"log/slog"
	"slices"
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
