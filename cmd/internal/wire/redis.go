package wire

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/doubletap-cdc/doubletap/admin"
	"github.com/doubletap-cdc/doubletap/config"
	"github.com/doubletap-cdc/doubletap/deleter"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

func (a *App) openRedis() (*deleter.Redis, error) {
	c := a.Config.Redis
	tls, err := c.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("redis.tls: %w", err)
	}
	return deleter.New(deleter.Config{
		Addrs: c.Addrs, Mode: c.Mode, Master: c.Master, DB: c.DB,
		Username: c.Username, Password: c.Password.Reveal(),
		SentinelUsername: c.SentinelUsername, SentinelPassword: c.SentinelPassword.Reveal(),
		TLS: tls, Protect: c.Protect, ScanRate: c.ScanRate, Stall: a.Config.SecondDelete.Stall, Logger: a.Log, Hooks: a.Hooks,
	})
}

// invalidate runs both passes until ctx ends, and asks the readers meanwhile.
// beside, where it is not nil, does as much for what is replayed.
func (a *App) invalidate(ctx context.Context, consumer pipeline.Consumer, dead pipeline.DeadLetters,
	beside func(context.Context, *watching, *liveFirst) error) error {
	redis, err := a.openRedis()
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	defer redis.Close()
	watching, err := a.watch()
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	defer watching.close()
	a.watching.Store(watching)
	a.redis.Store(redis)
	a.Ready.Set(admin.Partitions, "waiting for the log to say which partitions are this process's")
	a.Ready.Set("start", "")
	inv := a.invalidator(redis, watching, dead)
	inv.Watermarks, inv.MaxLag = redis, a.Config.Trust.MaxLag
	if a.Config.Mode == config.ModeObserve {
		a.Log.Warn("mode is observe: nothing is deleted, and applications are told nothing")
		inv.Deleter, inv.Watermarks = redis.Observe(), nil
	}
	live := newLiveFirst()
	inv.Hooks = pipeline.Join(inv.Hooks, live.hooks())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return watching.Run(ctx) })
	g.Go(func() error { return inv.Run(ctx, consumer) })
	if beside != nil {
		g.Go(func() error { return beside(ctx, watching, live) })
	}
	return g.Wait()
}

// invalidator makes both passes. It tells applications nothing.
func (a *App) invalidator(redis pipeline.Deleter, watching *watching, dead pipeline.DeadLetters) *pipeline.Invalidator {
	c := a.Config
	return &pipeline.Invalidator{
		Schema: a.Schema, Deleter: redis, DeadLetters: dead, Hooks: a.Hooks,
		Fill: c.SecondDelete.Fill, Readers: watching.Readers, Fallback: c.SecondDelete.Fallback, Gateless: !c.Source.Gate,
	}
}
