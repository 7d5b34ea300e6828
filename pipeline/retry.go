package pipeline

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Waits between attempts double from the first to the last, each varied by up
// to a half, so that many processes do not come back at the same instant.
const (
	firstWait = 50 * time.Millisecond
	lastWait  = 5 * time.Second
)

// backoff returns how long to wait after the attempt-th failure, from 1.
func backoff(attempt int) time.Duration {
	d := lastWait
	if attempt < 8 {
		d = min(firstWait<<(attempt-1), lastWait)
	}
	return d/2 + rand.N(d/2+1)
}

// retry calls fn until it succeeds, ctx ends, or fn's error wraps ErrFatal, and
// tells each failure to hook. Nothing in the engine gives up earlier: a delete
// that was not acknowledged is owed.
func retry(ctx context.Context, h *Hooks, op string, fn func(context.Context) error) error {
	for attempt := 1; ; attempt++ {
		err := fn(ctx)
		if err == nil {
			if attempt > 1 && h.Recovered != nil {
				h.Recovered(op, attempt-1)
			}
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, ErrFatal) {
			return err
		}
		in := backoff(attempt)
		if h.Retry != nil {
			h.Retry(op, attempt, err, in)
		}
		if err := sleep(ctx, in); err != nil {
			return err
		}
	}
}

// Retry does for the start of a command what the engine does for its work: it
// calls fn until it succeeds, ctx ends (the error is its cause) or fn's error
// wraps ErrFatal, waiting longer from time to time, up to 5 s. Each failure is told
// to h, and so is the success after one.
func Retry(ctx context.Context, h *Hooks, op string, fn func(context.Context) error) error {
	return retry(ctx, h, op, fn)
}

// sleep waits for d or until ctx ends, and then returns its cause.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// lastSave is how much longer than the work the storing of its progress may take.
const lastSave = 3 * time.Second

// outlive returns a context that ends lastSave after ctx does, or at cancel: what
// is done can still be stored when the doing has ended.
func outlive(ctx context.Context) (_ context.Context, cancel func()) {
	longer, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(lastSave, end) })
	return longer, func() { stop(); end() }
}
