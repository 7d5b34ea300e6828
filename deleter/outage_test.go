package deleter

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

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
