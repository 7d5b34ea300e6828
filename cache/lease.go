package cache

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// get reads through the cache, without asking whether it is trusted.
func (c *Client) get(ctx context.Context, key Key, ttl time.Duration, fill Fill) (Value, error) {
	s := newSeeker(key)
	c.round(ctx, s)
	for wait := newPause(c.o.Wait); s.busy() && !wait.over(); {
		if wait.first() {
			c.note(Waited, key)
		}
		if !wait.sleep(ctx) {
			break
		}
		c.round(ctx, s)
	}
	if s.mine() {
		return c.lead(ctx, s, ttl, fill)
	}
	c.drop(s)
	switch {
	case s.found():
		c.note(Hit, key)
		return s.e.value(), nil
	case s.other != nil:
		if v, err := c.await(ctx, s.other); !errors.Is(err, errNoFill) {
			c.note(Joined, key)
			return v, err
		}
	case ctx.Err() != nil:
		return Value{}, ctx.Err()
	case s.err != nil:
		c.note(Unreachable, key)
		return c.bypass(ctx, gtid.Set{}, key, fill)
	}
	c.note(Busy, key)
	return c.loadPast(ctx, c.o.Fills, gtid.Set{}, key, fill)
}

// lead fills under a lease that the search has.
func (c *Client) lead(ctx context.Context, s *seeker, ttl time.Duration, fill Fill) (Value, error) {
	c.note(Miss, s.key)
	c.settle(s)
	c.join(s.call)
	c.launch(ctx, func(ctx context.Context) {
		loaded := false
		defer func() {
			if !loaded { // also where fill panics
				c.giveUp(ctx, s)
			}
		}()
		if s.call.entry, s.call.err = c.load(ctx, c.o.Fills, s.key, fill, nil); s.call.err == nil {
			loaded = true
			c.keep(ctx, ttl, filled{s.key, s.e.token, s.call.entry})
		}
	}, func() { c.forget(s) }, s.call)
	return c.await(ctx, s.call)
}

// filled is a loaded entry and the lease to store it under.
type filled struct {
	key   Key
	token token
	entry entry
}

// keep stores what was filled. A fill that cannot be stored is still good to return.
func (c *Client) keep(ctx context.Context, ttl time.Duration, all ...filled) {
	calls := make([]*scriptCall, len(all))
	for i, f := range all {
		b, err := f.entry.marshal()
		if err != nil { // a GTID set that cannot be written: then nothing is known
			b, _ = entry{kind: f.entry.kind, data: f.entry.data}.marshal()
		}
		life := ttl
		if f.entry.kind == negative {
			life = min(ttl, c.o.NegativeTTL)
		}
		calls[i] = store(f.key, f.token, b, jitter(life))
	}
	c.runScripts(context.WithoutCancel(ctx), calls...)
	for i, s := range calls {
		switch done, err := s.done(); {
		case err != nil:
			c.note(Unkept, all[i].key)
		case done:
			c.note(Stored, all[i].key)
		default:
			c.note(Revoked, all[i].key)
		}
	}
}

// giveUp ends leases whose fill failed, so that nobody waits for them.
func (c *Client) giveUp(ctx context.Context, all ...*seeker) {
	calls := make([]*scriptCall, len(all))
	for i, s := range all {
		calls[i] = abandon(s.key, s.e.token)
	}
	c.runScripts(context.WithoutCancel(ctx), calls...)
}

// jitter changes d by up to a tenth, so that what was stored together does not end
// together.
func jitter(d time.Duration) time.Duration {
	// A tenth more than the longest would be less than nothing.
	d = min(d, math.MaxInt64/2)
	return max(time.Millisecond, time.Duration(float64(d)*(0.9+0.2*rand.Float64()))) //nolint:gosec // no secret
}
