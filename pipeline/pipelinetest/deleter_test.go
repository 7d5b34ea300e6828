package pipelinetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestRedis(t *testing.T) {
	RunDeleter(t, func(t *testing.T) DeleterUnderTest {
		r := NewRedis()
		return DeleterUnderTest{
			Deleter: r,
			Set: func(_ context.Context, keys ...string) error {
				for _, k := range keys {
					r.Set(k, "v")
				}
				return nil
			},
			Left: func(_ context.Context, keys ...string) ([]string, error) {
				return slices.DeleteFunc(slices.Clone(keys), func(k string) bool {
					_, ok := r.Get(k)
					return !ok
				}), nil
			},
		}
	})
}

func TestRedisFaults(t *testing.T) {
	r := NewRedis()
	boom := errors.New("boom")
	for _, c := range []struct {
		err        error
		left       []string
		acks, seen int // of key a
	}{
		{boom, []string{"c", "d"}, 0, 1},
		{ErrReplyLost, nil, 0, 2},
		{nil, nil, 1, 3},
	} {
		for _, k := range []string{"a", "b", "c", "d"} {
			r.Set(k, "v")
		}
		r.Inject(func(context.Context, DeleteCall) error { return c.err })
		if err := r.Delete(t.Context(), []string{"a", "b", "c", "d"}); err != c.err {
			t.Errorf("Delete = %v, want %v", err, c.err)
		}
		if got := r.Keys(); !slices.Equal(got, c.left) {
			t.Errorf("%v: left %q, want %q", c.err, got, c.left)
		}
		if r.Acked("a") != c.acks || len(r.LogOf("a")) != c.seen {
			t.Errorf("%v: acked %d, log %v", c.err, r.Acked("a"), r.LogOf("a"))
		}
	}
	if r.Calls() != 3 {
		t.Errorf("%d calls, want 3", r.Calls())
	}
}

func TestRedisInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRedis()
		r.Inject(func(ctx context.Context, _ DeleteCall) error {
			select {
			case <-time.After(time.Hour):
			case <-ctx.Done():
			}
			return nil
		})
		begin := time.Now()
		go r.Delete(t.Context(), []string{"a"}) //nolint:errcheck // its log is looked at
		if err := r.Wait(t.Context(), func() bool { return r.Acked("a") == 1 }); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin); d != time.Hour {
			t.Errorf("acknowledged after %v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Delete(ctx, []string{"a"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a delete that hangs ended with %v", err)
		}
	})
}
