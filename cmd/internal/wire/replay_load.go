package wire

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/deleter"
	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/watermark"
)

// liveLoad is what live traffic feels, for a replay's pace: it implements
// replay.Load. It is safe for concurrent use.
type liveLoad struct {
	redis  *deleter.Redis
	source pipeline.Reader
	name   string // of the source

	mu      sync.Mutex
	seen    time.Time // when the pipeline was last seen to run; zero if never
	samples []sample  // of the source, from old to new; not yet passed, but for the first
}

// sample is what the source had executed when it was asked.
type sample struct {
	asked time.Time
	shown gtid.Set
}

// newLoad makes it; it does not connect. close ends its connections.
func (a *App) newLoad(redis *deleter.Redis) (l *liveLoad, close func(), err error) {
	cfg, err := a.binlogConfig()
	if err != nil {
		return nil, nil, err
	}
	source := binlog.NewReader(cfg, cfg.Addr, "")
	return &liveLoad{redis: redis, source: source, name: a.Config.Source.Name}, source.Close, nil
}

// Redis implements replay.Load: the round trip of a PING.
func (l *liveLoad) Redis(ctx context.Context) (time.Duration, error) {
	c, err := l.redis.Conn(ctx)
	if err != nil {
		return 0, err
	}
	asked := time.Now()
	if err := c.Ping(ctx).Err(); err != nil {
		return 0, fmt.Errorf("ping Redis: %w", err)
	}
	return time.Since(asked), nil
}

// maxSamples bounds what is remembered while live deletes are late: lag is then
// told from the oldest one.
const maxSamples = 600

// Live implements replay.Load. Live deletes are as late as the newest answer of
// the source is old whose transactions the first pass has all handled, in every
// partition. Where nobody renews the trust in the cache, the pipeline is stopped
// and nobody tells. That a part of it is silent, or all of it since a moment ago,
// is an error: it may be late, or restarting.
func (l *liveLoad) Live(ctx context.Context) (lag time.Duration, known bool, err error) {
	c, err := l.redis.Conn(ctx)
	if err != nil {
		return 0, false, err
	}
	trust, err := watermark.ReadTrust(ctx, c, l.name)
	if err != nil {
		return 0, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if trust.Expired {
		return 0, false, l.silent(len(trust.Schemas))
	}
	l.seen = time.Now()
	asked := time.Now()
	view, err := l.source.Ask(ctx)
	if err != nil {
		return 0, false, fmt.Errorf("ask the source what it shows: %w", err)
	}
	marks, err := watermark.Read(ctx, c, l.name)
	if err != nil {
		return 0, false, err
	}
	return l.judge(sample{asked, view.Shown}, marks.Covers), true, nil
}

// goneAfter is how long a pipeline must have been silent in all partitions until it
// is taken for stopped.
const goneAfter = time.Minute

// silent returns an error where the pipeline should say how late it is, and does
// not; vouched is in how many partitions somebody speaks.
func (l *liveLoad) silent(vouched int) error {
	switch {
	case vouched > 0:
		l.seen = time.Now()
		return fmt.Errorf("somebody speaks for %d partitions and nobody for the others", vouched)
	case !l.seen.IsZero() && time.Since(l.seen) < goneAfter:
		return fmt.Errorf("no invalidator has said anything for %v", time.Since(l.seen).Round(time.Second))
	}
	return nil
}

// judge adds a sample and returns the lag. What is passed is forgotten.
func (l *liveLoad) judge(newest sample, covers func(gtid.Set, watermark.Pass) bool) time.Duration {
	l.samples = append(l.samples, newest)
	if len(l.samples) > maxSamples {
		l.samples = append(l.samples[:1], l.samples[2:]...)
	}
	for i := len(l.samples) - 1; i >= 0; i-- {
		if covers(l.samples[i].shown, watermark.First) {
			l.samples = append(l.samples[:0], l.samples[i+1:]...)
			break
		}
	}
	if len(l.samples) == 0 {
		return 0
	}
	return time.Since(l.samples[0].asked)
}
