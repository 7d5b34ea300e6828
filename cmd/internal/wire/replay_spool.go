package wire

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/deleter"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// spool is the log of a replay whose target is Redis: a folder on local disk,
// which an invalidator in this process consumes as it would consume the live log.
type spool struct {
	app *App
	log *bus.Embedded

	mu      sync.Mutex
	cursors pipeline.Cursors
	known   bool
	out     map[string]bool // readers that second deletes go on without
}

// spoolConsumer is the name of the invalidator's cursors.
const spoolConsumer = "replay"

// openSpool opens the log in the state folder.
func (a *App) openSpool(state string) (*spool, error) {
	s := &spool{app: a, out: map[string]bool{}}
	hooks := pipeline.Join(a.Hooks, pipeline.Hooks{
		Stored: func(_ string, c pipeline.Cursors) { s.stored(c) },
		ReaderOut: func(i pipeline.ReaderOutInfo) {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.out, i.Reader)
			if i.Out {
				s.out[i.Reader] = true
			}
		},
	})
	log, err := bus.OpenEmbedded(bus.EmbeddedConfig{Dir: filepath.Join(state, "spool"), Logger: a.Log, Hooks: hooks})
	if err != nil {
		return nil, err
	}
	s.log = log
	a.Hooks = hooks
	return s, nil
}

func (s *spool) stored(c pipeline.Cursors) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cursors, s.known = c, true
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
	g.Go(func() error { return inv.Run(ctx, noting{s.log.Consumer(spoolConsumer), s}) })
	return g.Wait()
}

// noting notes where the passes begin, which nobody stores.
type noting struct {
	pipeline.Consumer
	s *spool
}

func (n noting) Run(ctx context.Context, own func(context.Context, pipeline.Partition) error) error {
	return n.Consumer.Run(ctx, func(ctx context.Context, p pipeline.Partition) error {
		if c, gap := p.Cursors(); gap == "" {
			n.s.stored(c)
		}
		return own(ctx, p)
	})
}

// errNoCursors says that the passes have not begun.
var errNoCursors = errors.New("the passes have not begun yet")

// backlog returns how many records each pass has still to handle, by what is
// stored.
func (s *spool) backlog() (first, second int64, err error) {
	_, end := s.log.Bounds()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known {
		return 0, 0, errNoCursors
	}
	return max(0, end-s.cursors.First), max(0, end-s.cursors.Second), nil
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
