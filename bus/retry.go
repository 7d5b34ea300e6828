package bus

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 3 * time.Second
)

// backoff returns how long to wait after the attempt, the first being 1.
func backoff(attempt int) time.Duration {
	d := maxBackoff
	if attempt < 7 {
		d = min(maxBackoff, minBackoff<<(attempt-1))
	}
	return d/2 + rand.N(d/2+1)
}

// pause waits until the time is over or ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// reportRetry tells the hook, which then owns the log line, or else the log.
func reportRetry(h pipeline.Hooks, logger *slog.Logger, op string, attempt int, err error, in time.Duration) {
	if h.Retry != nil {
		h.Retry(op, attempt, err, in)
		return
	}
	logger.Warn("trying again", "op", op, "attempt", attempt, "err", err, "in", in)
}
