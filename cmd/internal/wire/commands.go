package wire

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Tailer is the command binlog-tailer.
var Tailer = Command{
	Name:     "binlog-tailer",
	Synopsis: "follows a MySQL or MariaDB binlog and publishes the row changes that the key schema names to Kafka.",
	Check:    checkTailer,
	Run:      runTailer,
}

// Invalidator is the command invalidator.
var Invalidator = Command{
	Name:     "invalidator",
	Synopsis: "deletes the Redis keys that published row changes make stale, at once and a second time when due.\nWith log.embedded it follows the binlog too, and is the whole pipeline.",
	Check:    checkInvalidator,
	Run:      runInvalidator,
}

func checkTailer(ctx context.Context, a *App) []pipeline.Finding {
	return nil
}

func runTailer(ctx context.Context, a *App) error {
	return nil
}

func checkInvalidator(ctx context.Context, a *App) []pipeline.Finding {
	return nil
}

func runInvalidator(ctx context.Context, a *App) error {
	if a.Config.Log.Embedded != nil {
		return a.runEmbedded(ctx)
	}
	return nil
}

// runEmbedded is the whole pipeline in one process.
func (a *App) runEmbedded(ctx context.Context) (err error) {
	log, err := a.openEmbedded()
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	defer func() {
		if cerr := log.Close(); err == nil {
			err = cerr
		}
	}()
	return together(ctx,
		func(ctx context.Context) error {
			return a.tail(ctx, log.Publisher(), log.Positions(a.Config.Source.Name))
		},
		func(ctx context.Context) error {
			return a.invalidate(ctx, log.Consumer(consumerName(a.Config)), log.DeadLetters())
		},
	)
}

// together runs fns until all have ended; the first error ends the others.
func together(ctx context.Context, fns ...func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, fn := range fns {
		g.Go(func() error { return fn(ctx) })
	}
	return g.Wait()
}
