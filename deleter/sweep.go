package deleter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// DeletePatterns implements pipeline.Deleter. SCAN shows every key that is there
// from its begin to its end, on one server process and as long as keys do not
// move between nodes; where the process or the slot map changed, the sweep is
// repeated or fails, so that nil means that no stale key was missed.
func (r *Redis) DeletePatterns(ctx context.Context, patterns []string) (deleted int, err error) {
	return r.sweep(ctx, patterns, r.unlink)
}

// found is what a sweep does with keys that match.
type found func(ctx context.Context, c redis.UniversalClient, keys []string) (int, error)

func (r *Redis) sweep(ctx context.Context, patterns []string, do found) (int, error) {
	if len(patterns) == 0 {
		return 0, nil
	}
	c, err := r.client(ctx)
	if err != nil {
		return 0, err
	}
	s := &sweep{r: r, c: c, do: do, globs: compileAll(patterns), patterns: patterns, begin: time.Now()}
	// One pattern is matched by Redis. Several are matched here, so that one pass
	// over the keys is enough.
	if len(patterns) == 1 {
		s.match = patterns[0]
	}
	stop := s.report(ctx)
	err = s.run(ctx)
	stop()
	if err != nil {
		return int(s.deleted.Load()), fmt.Errorf("delete the keys of %d patterns: %w", len(patterns), err)
	}
	return int(s.deleted.Load()), nil
}

// sweep is the state of one DeletePatterns.
type sweep struct {
	r        *Redis
	c        redis.UniversalClient
	do       found
	patterns []string
	globs    globs
	match    string // the pattern that Redis matches, "" if all is matched here
	begin    time.Time
	seen     atomic.Int64 // keys that SCAN was asked to look at
	deleted  atomic.Int64
}

// maxPasses bounds how often a sweep follows a slot map that keeps changing; the
// engine calls again after that.
const maxPasses = 10

// run repeats passes over all nodes until one of them is known to be complete:
// the slot map was the same before and after it, and no slot was on the move. If
// slots are on the move, a key may go from a node not yet scanned to one already
// scanned; it does so at most once under one map, so that a second pass under the
// same map sees it.
func (s *sweep) run(ctx context.Context) error {
	last := ""
	for range maxPasses {
		before, err := s.r.topology(ctx, s.c)
		if err != nil {
			return err
		}
		err = s.pass(ctx, before.nodes)
		before.close()
		if err != nil {
			return err
		}
		after, err := s.r.topology(ctx, s.c)
		if err != nil {
			return err
		}
		after.close()
		if before.slots == after.slots && (!after.moving || last == after.slots) {
			return nil
		}
		last = after.slots
		s.r.log.Warn("slots moved during a sweep; it begins again", "patterns", s.patterns, "deleted", s.deleted.Load())
	}
	return fmt.Errorf("the cluster's slot map has changed during each of %d passes", maxPasses)
}

// pass scans all nodes at once.
func (s *sweep) pass(ctx context.Context, nodes []node) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		g.Go(func() error {
			if err := s.scan(ctx, n); err != nil {
				return fmt.Errorf("sweep %s: %w", n.addr, explain(err))
			}
			return nil
		})
	}
	return g.Wait()
}

var errOtherServer = errors.New("another server process answers than at the begin of the sweep (a restart or a failover); the sweep has to begin again")

// scan goes over one node's keys. Each SCAN travels with a question for the
// server's run id: a cursor means nothing to another process.
func (s *sweep) scan(ctx context.Context, n node) error {
	if err := s.r.mustBeMaster(ctx, n); err != nil {
		return err
	}
	limiter, count := s.r.limiter(n.addr)
	id, cursor := "", uint64(0)
	for {
		if err := limiter.WaitN(ctx, count); err != nil {
			return err
		}
		got, err := s.step(ctx, n, cursor, count)
		if err != nil {
			return err
		}
		if id == "" {
			id = got.runID
		}
		if id != got.runID {
			return errOtherServer
		}
		s.seen.Add(int64(count))
		if err := s.remove(ctx, got.keys); err != nil {
			return err
		}
		if cursor = got.next; cursor == 0 {
			return s.r.mustBeMaster(ctx, n)
		}
	}
}

// scanned is what one SCAN brought.
type scanned struct {
	keys  []string
	next  uint64
	runID string // of the server that answered
}

// step is one SCAN.
func (s *sweep) step(ctx context.Context, n node, cursor uint64, count int) (scanned, error) {
	return call(ctx, s.r, func(ctx context.Context) (got scanned, err error) {
		pipe := n.client.Pipeline()
		info := pipe.Info(ctx, "server")
		scan := pipe.Scan(ctx, cursor, s.match, int64(count))
		if _, err := pipe.Exec(ctx); err != nil {
			return got, err
		}
		if got.runID = infoField(info.Val(), "run_id"); got.runID == "" {
			return got, errors.New("INFO server shows no run_id")
		}
		got.keys, got.next = scan.Val()
		return got, nil
	})
}

// remove deletes those of the keys that match and are not protected.
func (s *sweep) remove(ctx context.Context, keys []string) error {
	if s.match == "" {
		all := keys
		keys = keys[:0]
		for _, k := range all {
			if s.globs.match(k) {
				keys = append(keys, k)
			}
		}
	}
	if keys = s.r.withoutProtected(keys); len(keys) == 0 {
		return nil
	}
	deleted, err := s.do(ctx, s.c, keys)
	s.deleted.Add(int64(deleted))
	return err
}

// mustBeMaster refuses a replica: its keys are deleted by its master only.
func (r *Redis) mustBeMaster(ctx context.Context, n node) error {
	s, err := call(ctx, r, func(ctx context.Context) (server, error) { return whatIs(ctx, n.client) })
	if err == nil && s.role != "master" {
		return fmt.Errorf("%s is a %s, not a master", n.addr, s.role)
	}
	return err
}

// limiter returns the node's limiter, which all sweeps share, and how many keys
// one SCAN looks at: at most 50 ms' worth, and at most 1000, which keep Redis
// busy for less than a millisecond.
func (r *Redis) limiter(addr string) (*rate.Limiter, int) {
	count := min(max(r.cfg.ScanRate/20, 1), 1000)
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.limiters[addr]
	if l == nil {
		l = rate.NewLimiter(rate.Limit(r.cfg.ScanRate), count)
		r.limiters[addr] = l
	}
	return l, count
}

// reportEvery is how often a long sweep says how far it is.
const reportEvery = 5 * time.Second

// report logs the progress until the returned function is called.
func (s *sweep) report(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(reportEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.r.log.Info("sweeping", "patterns", s.patterns, "looked_at", s.seen.Load(),
					"deleted", s.deleted.Load(), "for", time.Since(s.begin).Round(time.Second))
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}
