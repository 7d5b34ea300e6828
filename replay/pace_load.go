package replay

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// signals is what a look found.
type signals struct {
	redis, floor time.Duration // a typical answer, and the shortest one
	redisErr     error
	lag          time.Duration
	lagKnown     bool
	lagErr       error
	behind, owed int64 // keys before the first pass, and before the second; negative if unknown
}

// verdict is what follows from signals.
type verdict struct {
	stop   bool // nothing goes
	slow   bool // the rate is halved
	by     string
	reason string
}

// judge says what signals mean. Live traffic comes first: by its lag alone a
// replay stops.
func (p *Pace) judge(s signals) verdict {
	switch {
	case s.lagErr == nil && s.lagKnown && s.lag > p.maxLag():
		return verdict{stop: true, by: ByLive, reason: fmt.Sprintf("live deletes are %s late, more than %s", round(s.lag), round(p.maxLag()))}
	case s.redisErr != nil:
		return verdict{stop: true, by: ByRedis, reason: fmt.Sprintf("Redis does not answer: %v", s.redisErr)}
	case s.behind > p.maxBehind():
		return verdict{stop: true, by: ByBacklog, reason: fmt.Sprintf("the replay's own deletes are about %d keys behind, more than %d", s.behind, p.maxBehind())}
	case s.owed > maxOwed:
		return verdict{stop: true, by: ByBacklog, reason: fmt.Sprintf("about %d keys wait for their second delete, more than %d: does a server that fills read from lag?", s.owed, maxOwed)}
	case s.redis > s.floor+p.maxSlower():
		return verdict{slow: true, by: ByRedis, reason: fmt.Sprintf("Redis answers in %s, more than %s over its %s", round(s.redis), round(p.maxSlower()), round(s.floor))}
	case s.lagErr != nil:
		return verdict{slow: true, by: ByLive, reason: fmt.Sprintf("nobody says how late live deletes are: %v", s.lagErr)}
	}
	return verdict{}
}

// round leaves three digits, for people.
func round(d time.Duration) time.Duration {
	for unit := time.Microsecond; unit < time.Second; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
	return d.Round(time.Second)
}

// latency is what is known of Redis' answers. The typical one is the median of
// the last few: a single late answer says nothing.
type latency struct {
	last  []time.Duration
	floor time.Duration
}

const (
	lastAnswers  = 5
	firstAnswers = 10 // asked at the start, for the floor
)

func (l *latency) add(d time.Duration) {
	if l.floor == 0 || d < l.floor {
		l.floor = d
	}
	l.last = append(l.last, d)
	if len(l.last) > lastAnswers {
		l.last = l.last[1:]
	}
}

func (l *latency) typical() time.Duration {
	if len(l.last) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(l.last))
	return sorted[len(sorted)/2]
}

// maxOwed is how many keys may wait for their second delete: they are in the log
// until every server shows what was read, and a log is not kept without bounds.
const maxOwed = 10_000_000

// askTimeout bounds a question of a look.
const askTimeout = 2 * time.Second

// run looks again and again until ctx ends. behind returns how many keys the
// replay's two passes have before them.
func (p *Pace) run(ctx context.Context, behind func(context.Context) (Backlog, error)) {
	if p.Load != nil {
		for range firstAnswers {
			ask, cancel := context.WithTimeout(ctx, askTimeout)
			if d, err := p.Load.Redis(ask); err == nil {
				p.redis.add(d)
			}
			cancel()
			if sleep(ctx, p.every()/10) != nil {
				return
			}
		}
	}
	for ctx.Err() == nil {
		s := p.look(ctx, behind)
		if ctx.Err() != nil {
			return
		}
		p.adapt(p.judge(s))
		if sleep(ctx, p.every()) != nil {
			return
		}
	}
}

// look asks everybody at the same time, so that one who is slow to answer does
// not make the others' answers old.
func (p *Pace) look(ctx context.Context, behind func(context.Context) (Backlog, error)) signals {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s := signals{behind: -1, owed: -1}
	var wg sync.WaitGroup
	if p.Load != nil {
		wg.Go(func() {
			d, err := p.Load.Redis(ctx)
			if s.redisErr = err; err == nil {
				p.redis.add(d)
			}
		})
		wg.Go(func() { s.lag, s.lagKnown, s.lagErr = p.Load.Live(ctx) })
	}
	wg.Go(func() {
		// Not to know is no reason to hold back: the log that cannot be asked does
		// not take chunks either.
		if b, err := behind(ctx); err == nil {
			s.behind, s.owed = b.First, b.Second
		}
	})
	wg.Wait()
	s.redis, s.floor = p.redis.typical(), p.redis.floor
	return s
}

// sleep waits for d or until ctx ends, and then returns its cause.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
