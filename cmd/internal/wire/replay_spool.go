package wire

import (
	"context"
	"fmt"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/deleter"
	"github.com/doubletap-cdc/doubletap/replay"
)

// spool is the log of a replay whose target is Redis: a folder on local disk,
// which an invalidator in this process consumes as it would consume the live log.
type spool struct {
	app *App
	log *bus.Embedded
}

// spoolConsumer is the name of the invalidator's cursors.
const spoolConsumer = "replay"

// spoolDir is its folder, in the state folder.
const spoolDir = "spool"

// openSpool opens the log in the state folder.
func (a *App) openSpool(state string) (*spool, error) {
	log, err := bus.OpenEmbedded(bus.EmbeddedConfig{Dir: filepath.Join(state, spoolDir), Logger: a.Log, Hooks: a.Hooks})
	if err != nil {
		return nil, err
	}
	return &spool{app: a, log: log}, nil
}

// run makes the deletes until ctx ends.
func (s *spool) run(ctx context.Context, redis *deleter.Redis) error {
	watching, err := s.app.watch()
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	defer watching.close()
	inv := s.app.invalidator(redis, watching, s.log.DeadLetters())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return watching.Run(ctx) })
	g.Go(func() error { return inv.Run(ctx, s.log.Consumer(spoolConsumer)) })
	return g.Wait()
}

// backlog says how far the passes are behind the end, by what they have stored: so a
// reader that is out counts also before they begin.
func (s *spool) backlog(ctx context.Context) (b replay.Backlog, err error) {
	b.First, b.Second, err = s.log.Backlog(ctx, spoolConsumer)
	return b, err
}
