package wire

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/deleter"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// spool is the log of a replay whose target is Redis: a folder on local disk,
// which an invalidator in this process consumes as it would consume the live log.
type spool struct {
	app *App
	log *bus.Embedded

	mu  sync.Mutex
	out map[string]bool // readers that second deletes go on without
}

// spoolConsumer is the name of the invalidator's cursors.
const spoolConsumer = "replay"

// spoolDir is its folder, in the state folder.
const spoolDir = "spool"

// openSpool opens the log in the state folder.
func (a *App) openSpool(state string) (*spool, error) {
	s := &spool{app: a, out: map[string]bool{}}
	hooks := pipeline.Join(a.Hooks, pipeline.Hooks{
		ReaderOut: func(i pipeline.ReaderOutInfo) {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.out, i.Reader)
			if i.Out {
				s.out[i.Reader] = true
			}
		},
	})
	log, err := bus.OpenEmbedded(bus.EmbeddedConfig{Dir: filepath.Join(state, spoolDir), Logger: a.Log, Hooks: hooks})
	if err != nil {
		return nil, err
	}
	s.log = log
	a.Hooks = hooks
	return s, nil
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

// backlog says how far the passes are behind the end. A reader that is out is owed
// second deletes which no backlog shows: then the second pass counts as one behind.
func (s *spool) backlog(ctx context.Context) (b replay.Backlog, err error) {
	b.First, b.Second, err = s.log.Backlog(ctx, spoolConsumer)
	if len(s.readersOut()) > 0 {
		b.Second = max(b.Second, 1)
	}
	return b, err
}

// readersOut returns the readers to which second deletes are owed.
func (s *spool) readersOut() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.out {
		names = append(names, name)
	}
	return names
}
