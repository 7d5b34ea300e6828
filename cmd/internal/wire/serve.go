package wire

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/doubletap-cdc/doubletap/admin"
	"github.com/doubletap-cdc/doubletap/config"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// observe makes the hooks that feed logs, metrics and readiness.
func (a *App) observe() {
	registry := admin.NewRegistry()
	metrics, hooks := admin.NewMetrics(registry)
	metrics.SetBuild(version(), a.Config.Mode == config.ModeObserve)
	a.registry, a.Ready = registry, admin.NewReady("start")
	a.Hooks = pipeline.Join(hooks, admin.LogHooks(a.Log), a.Ready.Hooks())
	a.replayHooks = pipeline.Join(admin.NewReplayMetrics(registry), admin.LogHooks(a.Log.With("replay", true)), a.Ready.ReplayHooks())
}

// serve answers health and metrics while the command works.
func (a *App) serve(ctx context.Context, c Command) error {
	listener, err := admin.Listen(ctx, a.adminAddr, a.adminExact, a.Log)
	if errors.Is(err, syscall.EADDRINUSE) && a.adminExact {
		return fmt.Errorf("%w: %w; choose another -admin, or leave it out, and the next free port is taken", errUsage, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	a.listening = listener.Addr().String()
	a.Log.Info("admin is listening", "addr", a.listening)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return admin.Serve(serving, listener, a.pages(c).Handler())
	})
	g.Go(func() error {
		defer stop() // metrics can be read until the work has ended
		return c.Run(ctx, a)
	})
	return g.Wait()
}

// pages are what the command answers over HTTP.
func (a *App) pages(c Command) *admin.Pages {
	p := &admin.Pages{Title: c.Name + " " + version(), Registry: a.registry, Ready: a.Ready, Readers: a.readerPage}
	if c.Deletes {
		p.Progress, p.Log = a.progress, a.openLog.Load
	}
	return p
}
