package cache

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/watermark"
)

const (
	// trustEvery is how often a process looks whom invalidators vouch for.
	trustEvery = time.Second
	// trustKept is how long an answer counts while no newer one can be had. Redis
	// does not answer then, so there is little that could be served.
	trustKept = 3 * time.Second
)

// trust knows for which rules the invalidators vouch that deletes arrive in time.
// They say so by keys that expire: the death of all of them is noticed by nothing
// being said.
type trust struct {
	answer atomic.Pointer[trustAnswer]

	mu     sync.Mutex
	tried  time.Time     // when was last asked
	asking chan struct{} // closed when the question under way has ended; nil: none is
}

type trustAnswer struct {
	at        time.Time // when it was asked for
	untrusted []string
}

func (a *trustAnswer) age() time.Duration {
	if a == nil {
		return time.Hour
	}
	return time.Since(a.at)
}

// trusted reports whether the invalidators vouch that the rule's deletes arrive in
// time. It asks at most every trustEvery, all rules and callers together, and in
// the background, unless nothing is known: then it waits for the answer, no longer
// than Options.RedisTimeout. What cannot be asked is not trusted.
func (c *Client) trusted(ctx context.Context, rule *keys.Rule) bool {
	a := c.trust.answer.Load()
	if a.age() >= trustEvery {
		asking := c.askTrust(ctx)
		if a.age() >= trustKept && asking != nil {
			select {
			case <-asking:
			case <-ctx.Done():
			}
		}
		a = c.trust.answer.Load()
	}
	return a.age() < trustKept && !slices.Contains(a.untrusted, "*") && !slices.Contains(a.untrusted, rule.Name())
}

// askTrust asks, if it is time to, and returns what is closed when an answer under
// way has come, or nil.
func (c *Client) askTrust(ctx context.Context) <-chan struct{} {
	t := &c.trust
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.asking != nil || now.Sub(t.tried) < trustEvery || !c.begin() {
		return t.asking
	}
	asking := make(chan struct{})
	t.tried, t.asking = now, asking
	go func() {
		defer c.running.Done()
		said, err := c.readTrust(context.WithoutCancel(ctx))
		if err == nil {
			t.answer.Store(&trustAnswer{now, said.Untrusted})
		}
		t.mu.Lock()
		t.asking = nil
		t.mu.Unlock()
		close(asking)
	}()
	return asking
}

// begin counts one goroutine that Close waits for, unless Close was called.
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.running.Add(1)
	}
	return !c.closed
}

func (c *Client) readTrust(ctx context.Context) (said watermark.Trust, err error) {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, c.o.RedisTimeout)
	defer cancel()
	err = c.breakers.guard("trust", caller, func() error {
		conn, err := c.client(ctx)
		if err == nil {
			said, err = watermark.ReadTrust(ctx, conn, c.o.Source)
		}
		return err
	})
	return said, err
}
