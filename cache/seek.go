package cache

import (
	"context"
	"errors"
	"slices"
	"time"
)

// seeker is one caller's search for one key: for its value, or for the right to
// fill it.
//
// It may ask for several leases, a new one each time: a request whose reply was lost
// may still run, and a late copy must not make valid again what a delete has
// revoked. If the key turns out to hold the lease of an earlier request, that one
// has run, once and for all, and is as good.
type seeker struct {
	key    Key
	call   *call   // the fill, if it comes to one; others of this process may wait for it
	tokens []token // asked for

	// What the last round has found.
	e     entry
	err   error
	other *call // another fill of this process, joined
}

func newSeeker(key Key) *seeker { return &seeker{key: key, call: newCall()} }

// mine reports whether the key holds a lease of this search.
func (s *seeker) mine() bool {
	return s.err == nil && s.e.kind == leased && slices.Contains(s.tokens, s.e.token)
}

// busy reports whether another process fills.
func (s *seeker) busy() bool {
	return s.err == nil && s.e.kind == leased && s.other == nil && !s.mine()
}

// found reports whether there is something to return.
func (s *seeker) found() bool { return s.err == nil && s.e.kind != leased }

// round looks at each key once, and asks for a lease where there is nothing. After
// a lost reply it asks once more.
func (c *Client) round(ctx context.Context, all ...*seeker) {
	cmds := make([]*command, len(all))
	for i, s := range all {
		cmds[i] = get(ctx, s.key)
	}
	c.run(ctx, cmds...)
	var strange []*command
	var ask []*seeker
	for i, s := range all {
		s.e, s.err = cmds[i].entry()
		if s.err == nil && s.e.kind == foreign {
			c.note(Foreign, s.key)
			strange = append(strange, unlink(ctx, s.key))
			s.e.kind = absent
		}
		if s.err == nil && s.e.kind == absent {
			ask = append(ask, s)
		}
	}
	if len(strange) > 0 {
		c.run(ctx, strange...)
	}
	for tries := 0; tries < 2 && len(ask) > 0; tries++ {
		ask = c.ask(ctx, ask)
	}
	for _, s := range all {
		if s.busy() {
			s.other = c.flight(s.e.token)
		}
	}
}

// ask asks for leases, and returns those to whom no answer came.
func (c *Client) ask(ctx context.Context, all []*seeker) (lost []*seeker) {
	cmds := make([]*command, len(all))
	for i, s := range all {
		cmds[i] = acquire(ctx, s.key, c.announce(s), c.o.LeaseTTL)
	}
	c.run(ctx, cmds...)
	for i, s := range all {
		s.e, s.err = cmds[i].entry()
		switch {
		case s.err != nil:
			if !answered(s.err) && !rejected(s.err) && ctx.Err() == nil {
				lost = append(lost, s)
			}
		case s.e.kind == absent:
			s.e = entry{kind: leased, token: s.tokens[len(s.tokens)-1]}
		case s.e.kind == foreign:
			s.err = errors.New("the key holds what is not of this protocol, again")
		}
	}
	return lost
}

// announce makes a new lease. The fill is known by it before it is asked for, so
// that whoever finds the lease in Redis finds the fill.
func (c *Client) announce(s *seeker) token {
	t := newToken()
	s.tokens = append(s.tokens, t)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flights[t] = s.call
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

// settle keeps only the lease that a fill has, before its load begins. A request
// whose reply was lost may still run: late, after a delete that revoked the fill.
// Who found that lease must not join, for the fill may be older than the delete.
// Whoever has joined before is safe: the snapshot is opened later.
func (c *Client) settle(all ...*seeker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range all {
		for _, t := range s.tokens {
			if t != s.e.token {
				delete(c.flights, t)
			}
		}
	}
}

// forget makes the leases of a search unknown again.
func (c *Client) forget(s *seeker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range s.tokens {
		delete(c.flights, t)
	}
}

// drop ends a search that comes to no fill.
func (c *Client) drop(s *seeker) {
	c.forget(s)
	s.call.err = errNoFill
	close(s.call.done)
}

// pause waits for another process that fills, with growing pauses.
type pause struct {
	until time.Time
	next  time.Duration
}

func newPause(limit time.Duration) *pause { return &pause{until: time.Now().Add(limit)} }

func (p *pause) over() bool { return !time.Now().Before(p.until) }

func (p *pause) first() bool { return p.next == 0 }

// sleep returns whether ctx is still alive.
func (p *pause) sleep(ctx context.Context) bool {
	p.next = min(max(2*p.next, 2*time.Millisecond), 20*time.Millisecond)
	return sleep(ctx, min(p.next, time.Until(p.until)))
}
