package wire

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/doubletap-cdc/doubletap/config"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// replayMemory bounds the keys of replayed events that wait for the second pass,
// besides those of live ones, which have the engine's default. What does not fit is
// read from the log again.
const replayMemory = 16 << 20

// replayRate bounds the bytes of replayed records that this process reads in a
// second, of all partitions together: about 200,000 rows, which are planned in a
// fifth of a processor's time. A backlog that built up while nothing ran would take
// all processors otherwise. No step is larger than replayStep without a pause.
const (
	replayRate = 4 << 20
	replayStep = 128 << 10
)

// replayAgain is when what ended with an error is begun again.
const replayAgain = 10 * time.Second

// replayConsumerName names the cursors of the log of replays.
func replayConsumerName(c *config.Config) string { return consumerName(c) + ".replay" }

// replaying returns what a needs for replayed events: a log and metrics that say
// so, and no condition of readiness. Sweeps of replays come at half the rate,
// beside those of live changes.
func (a *App) replaying() *App {
	c := *a.Config
	c.Redis.ScanRate = max(1, c.Redis.ScanRate/2)
	return &App{Config: &c, Schema: a.Schema, Log: a.Log.With("replay", true), Hooks: a.replayHooks, Ready: a.Ready}
}

// handleReplays handles what is in the log of replays until ctx ends, with the
// engine that handles live changes, and posts no watermarks: how far it is says
// nothing about how late live deletes are. It has connections of its own, so that
// no live delete waits for one. Nothing that happens to it ends the process.
func (a *App) handleReplays(ctx context.Context, watching *watching, live *liveFirst) error {
	r := a.replaying()
	redis, err := r.openRedis()
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	defer redis.Close()
	log, err := r.openKafka()
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	var deletes pipeline.Deleter = redis
	if r.Config.Mode == config.ModeObserve {
		deletes = redis.Observe()
	}
	limit := rate.NewLimiter(replayRate, replayStep)
	for attempt := 1; ctx.Err() == nil; attempt++ {
		inv := r.invalidator(deletes, watching, log.DeadLetters())
		inv.Memory, inv.Replays = replayMemory, true
		consumer := log.Replay().Consumer(replayConsumerName(r.Config))
		if err := inv.Run(ctx, afterLive{consumer, live, limit}); err != nil && ctx.Err() == nil {
			r.Hooks.Retry("handle replays", attempt, err, replayAgain)
		}
		select {
		case <-ctx.Done():
		case <-time.After(replayAgain):
		}
	}
	return closeLog(ctx, log)
}

// afterLive is a consumer of what comes after live changes.
type afterLive struct {
	pipeline.Consumer
	live  *liveFirst
	limit *rate.Limiter // of bytes
}

func (c afterLive) Run(ctx context.Context, own func(context.Context, pipeline.Partition) error) error {
	return c.Consumer.Run(ctx, func(ctx context.Context, p pipeline.Partition) error {
		return own(ctx, heldBack{p, c})
	})
}

type heldBack struct {
	pipeline.Partition
	by afterLive
}

func (p heldBack) Read(ctx context.Context, from int64) (pipeline.Fetch, error) {
	if err := p.by.live.wait(ctx); err != nil {
		return pipeline.Fetch{Next: from, End: from}, err
	}
	f, err := p.Partition.Read(ctx, from)
	if err != nil {
		return f, err
	}
	size := 0
	for _, m := range f.Messages {
		size += len(m.Data)
	}
	for ; size > 0; size -= replayStep {
		if err := p.by.limit.WaitN(ctx, min(size, replayStep)); err != nil {
			return pipeline.Fetch{Next: from, End: from}, err
		}
	}
	return f, nil
}
