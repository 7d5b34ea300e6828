package deleter

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

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
