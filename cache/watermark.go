package cache

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/watermark"
)

const (
	// Who waits asks soon at first, because the first pass is some milliseconds
	// behind a commit.
	soonest = 5 * time.Millisecond
	latest  = 50 * time.Millisecond
)

// progress is what was last read of the watermarks. All calls share it: what a
// pass has done stays done.
type progress struct {
	last   atomic.Pointer[progressAnswer]
	asking chan struct{} // held by the one that asks
}

type progressAnswer struct {
	at    time.Time // when it was asked for
	state watermark.State
	err   error
}

// state returns the watermarks as they were at most maxAge before the call, or
// later. One caller asks at a time, and for all that came before he asked: so nobody
// waits for more than two answers, however slow Redis is.
func (c *Client) state(ctx context.Context, maxAge time.Duration) (watermark.State, error) {
	p, oldest := &c.progress, time.Now().Add(-maxAge)
	fresh := func() *progressAnswer {
		if a := p.last.Load(); a != nil && a.at.After(oldest) {
			return a
		}
		return nil
	}
	if a := fresh(); a != nil {
		return a.state, a.err
	}
	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	case <-ctx.Done():
		return watermark.State{}, ctx.Err()
	}
	if a := fresh(); a != nil {
		return a.state, a.err
	}
	a := &progressAnswer{at: time.Now()}
	a.state, a.err = c.readState(ctx)
	if ctx.Err() == nil { // what one caller had no time for is not everybody's answer
		p.last.Store(a)
	}
	return a.state, a.err
}

func (c *Client) readState(ctx context.Context) (s watermark.State, err error) {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, c.o.RedisTimeout)
	defer cancel()
	err = c.breakers.guard("watermarks", caller, func() error {
		conn, err := c.client(ctx)
		if err == nil {
			s, err = watermark.Read(ctx, conn, c.o.Source)
		}
		return err
	})
	return s, err
}

// covers reports whether it is known that a pass has done all of a set. It asks
// Redis only if what is known is older than maxAge.
func (c *Client) covers(ctx context.Context, set gtid.Set, pass watermark.Pass, maxAge time.Duration) bool {
	if a := c.progress.last.Load(); a != nil && a.err == nil && a.state.Covers(set, pass) {
		return true
	}
	s, err := c.state(ctx, maxAge)
	return err == nil && s.Covers(set, pass)
}

// WaitInvalidated returns once the first pass has deleted every key that the
// token's transactions made stale. Whoever reads after that, from any process, and
// from Redis or the primary, sees them. (Where fills read replicas it can be that
// one puts an old value back before the second pass: then use [Client.GetAfter].)
//
// It blocks until then, or until ctx ends: give it a deadline, for the invalidators
// may be down. The error says what is missing; it is ctx's, or [ErrSeen].
func (c *Client) WaitInvalidated(ctx context.Context, token Seen) error {
	set, err := token.Set()
	if err != nil {
		return err
	}
	if set.Empty() {
		return nil
	}
	why := "nothing was read yet"
	for pause := soonest; ; pause = min(2*pause, latest) {
		s, err := c.state(ctx, soonest)
		switch {
		case err == nil && s.Covers(set, watermark.First):
			return nil
		case err == nil:
			why = strings.Join(s.Missing(set, watermark.First), ", ")
		case ctx.Err() == nil:
			why = err.Error()
		}
		if !sleep(ctx, pause) {
			return fmt.Errorf("wait until the keys of what was seen are deleted: %w; missing: %s", ctx.Err(), why)
		}
	}
}

// sleep waits for a time; false if ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
