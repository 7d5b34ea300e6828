package cache

import (
	"context"
	"errors"
	"sync"
)

// memory is what the user behind a context has seen.
type memory struct {
	mu   sync.Mutex
	seen Seen
	sent bool // it is too late to tell him more
}

type memoryKey struct{}

// NewContext returns a context that remembers what somebody has seen, beginning
// with the given token: for requests that come by other ways than HTTP.
func NewContext(ctx context.Context, token Seen) context.Context {
	return context.WithValue(ctx, memoryKey{}, &memory{seen: token})
}

// FromContext returns the token of all that the context's user is known to have
// seen: to give to [Client.GetAfter]. It is "" outside [NewContext] and the
// middleware. Like [Remember], it may be called by several goroutines.
func FromContext(ctx context.Context) Seen {
	m, ok := ctx.Value(memoryKey{}).(*memory)
	if !ok {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen
}

// Remember adds a token to what the context's user has seen: that of his write, or
// of a value that he is shown. The middleware tells his next requests, so it must
// be called before the answer's first byte is written; later it is an error, as it
// is where nothing would be remembered.
func Remember(ctx context.Context, token Seen) error {
	m, ok := ctx.Value(memoryKey{}).(*memory)
	if !ok {
		return errors.New("remember a token: the context has no memory: it does not come through the middleware or NewContext")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sent {
		return errors.New("remember a token: the answer's header is on its way already")
	}
	if token == m.seen || token == "" {
		return nil
	}
	seen, err := Merge(m.seen, token)
	if err == nil {
		m.seen = seen
	}
	return err
}

// Forget drops all that the context's user has seen: the answer to [ErrBehind].
func Forget(ctx context.Context) {
	if m, ok := ctx.Value(memoryKey{}).(*memory); ok {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.seen = ""
	}
}
