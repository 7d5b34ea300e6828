package cache

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// attempt is one caller's try to become a key's filler: the call that others of
// this process can wait for, and the leases that were asked for. There may be
// several: a new one each time, since a request whose reply was lost may still run,
// and a late copy must not make valid again what a delete has revoked. If the key
// turns out to hold the lease of an earlier request, that one has run, once and for
// all, and is as good.
type attempt struct {
	call   *call
	tokens []token
}

// ask makes a new lease. The call is known by it before it is asked for, so that
// whoever finds it in Redis finds the call.
func (c *Client) ask(a *attempt) token {
	t := newToken()
	a.tokens = append(a.tokens, t)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flights[t] = a.call
	return t
}

// flight joins the fill of this process that holds a lease, if there is one. What
// is under a lease that is still in Redis is as good as a hit: no delete has run
// since.
func (c *Client) flight(t token) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.flights[t]
	if cl == nil || !cl.join() {
		return nil
	}
	return cl
}

// land forgets the leases of an attempt.
func (c *Client) land(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range a.tokens {
		delete(c.flights, t)
	}
}

// drop ends an attempt that never got its lease.
func (c *Client) drop(a *attempt) {
	c.land(a)
	a.call.err = errNoFill
	close(a.call.done)
}

// get reads through the cache, without asking whether it is trusted.
func (c *Client) get(ctx context.Context, key Key, ttl time.Duration, fill Fill) (Value, error) {
	a := &attempt{call: newCall()}
	e, other, err := c.seek(ctx, key, a)
	if err == nil && e.kind == leased && slices.Contains(a.tokens, e.token) {
		return c.lead(ctx, key, a, e.token, ttl, fill)
	}
	c.drop(a)
	switch {
	case ctx.Err() != nil:
		return Value{}, ctx.Err()
	case err != nil:
		return c.bypass(ctx, key, fill, Unreachable)
	case e.kind != leased:
		c.note(key, Hit)
		return e.value(), nil
	}
	if other != nil {
		if v, err := c.await(ctx, other); !errors.Is(err, errNoFill) {
			c.note(key, Joined)
			return v, err
		}
	}
	return c.loadPast(ctx, c.o.Fills, key, fill, Busy)
}

// seek looks for a value until there is one, or the key holds a lease of a, or one
// of another call of this process, which it joins, or Options.Wait is over.
func (c *Client) seek(ctx context.Context, key Key, a *attempt) (e entry, other *call, err error) {
	e, err = c.look(ctx, key)
	for wait := newPause(c.o.Wait); err == nil; {
		switch {
		case e.kind == absent:
			e, err = c.take(ctx, key, a)
			continue
		case e.kind == foreign:
			c.note(key, Foreign)
			c.run(ctx, unlink(ctx, key))
			if e, err = c.take(ctx, key, a); e.kind == foreign {
				err = errors.New("the key holds what is not of this protocol, again")
			}
			continue
		case e.kind != leased, slices.Contains(a.tokens, e.token):
			return e, nil, nil
		}
		if other = c.flight(e.token); other != nil || wait.over() {
			return e, other, nil
		}
		if wait.first() {
			c.note(key, Waited)
		}
		if err = wait.sleep(ctx); err == nil {
			e, err = c.look(ctx, key)
		}
	}
	return e, nil, err
}

// take asks for a lease, and returns what the key then holds. After a lost reply it
// asks once more.
func (c *Client) take(ctx context.Context, key Key, a *attempt) (e entry, err error) {
	for range 2 {
		t := c.ask(a)
		cmd := acquire(ctx, key, t, c.o.LeaseTTL)
		c.run(ctx, cmd)
		if e, err = cmd.entry(); err == nil && e.kind == absent {
			return entry{kind: leased, token: t}, nil
		}
		if err == nil || rejected(err) || answered(err) || ctx.Err() != nil {
			break
		}
	}
	return e, err
}

// lead fills under a lease that the attempt has.
func (c *Client) lead(ctx context.Context, key Key, a *attempt, t token, ttl time.Duration, fill Fill) (Value, error) {
	c.note(key, Miss)
	c.mu.Lock()
	a.call.join()
	c.mu.Unlock()
	c.launch(ctx, a.call, func(ctx context.Context) (e entry, err error) {
		stored := false
		defer func() {
			if !stored { // also where fill panics
				c.giveUp(ctx, key, t)
			}
		}()
		if e, err = load(ctx, c.o.Fills, key, fill); err == nil {
			stored = true
			c.keep(ctx, ttl, filled{key, t, e})
		}
		return e, err
	}, func() { c.land(a) })
	return c.await(ctx, a.call)
}

// filled is a loaded entry and the lease to store it under.
type filled struct {
	key   Key
	token token
	entry entry
}

// keep stores what was filled. A fill that cannot be stored is still good to return.
func (c *Client) keep(ctx context.Context, ttl time.Duration, all ...filled) {
	ctx = context.WithoutCancel(ctx)
	var calls []*scriptCall
	for _, f := range all {
		b, err := f.entry.marshal()
		if err != nil { // a GTID set that cannot be written: nothing is known, then
			b, _ = entry{kind: f.entry.kind, data: f.entry.data}.marshal()
		}
		life := ttl
		if f.entry.kind == negative {
			life = min(ttl, c.o.NegativeTTL)
		}
		calls = append(calls, store(f.key, f.token, b, jitter(life)))
	}
	c.runScripts(ctx, calls...)
	for _, s := range calls {
		switch done, err := s.done(); {
		case err != nil:
			c.note(s.key, Unkept)
		case done:
			c.note(s.key, Stored)
		default:
			c.note(s.key, Revoked)
		}
	}
}

// giveUp ends a lease whose fill failed, so that nobody waits for it.
func (c *Client) giveUp(ctx context.Context, key Key, t token) {
	c.runScripts(context.WithoutCancel(ctx), abandon(key, t))
}

// jitter changes d by up to a tenth, so that what was stored together does not end
// together.
func jitter(d time.Duration) time.Duration {
	return max(time.Millisecond, time.Duration(float64(d)*(0.9+0.2*rand.Float64()))) //nolint:gosec // no secret
}

// pause waits for another process that fills, with growing pauses.
type pause struct {
	until time.Time
	next  time.Duration
}

func newPause(limit time.Duration) *pause { return &pause{until: time.Now().Add(limit)} }

func (p *pause) over() bool { return !time.Now().Before(p.until) }

func (p *pause) first() bool { return p.next == 0 }

func (p *pause) sleep(ctx context.Context) error {
	p.next = min(max(2*p.next, 2*time.Millisecond), 20*time.Millisecond)
	timer := time.NewTimer(min(p.next, time.Until(p.until)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
