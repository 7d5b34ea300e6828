package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/watermark"
)

const (
	// askAgain is how old an answer about the passes may be before GetAfter asks for
	// a newer one.
	askAgain = 10 * time.Millisecond
	// primaryLimit is how long GetAfter waits for the primary to show what somebody
	// has seen elsewhere.
	primaryLimit = 3 * time.Second
	// primaryPause is the longest pause between two attempts meanwhile.
	primaryPause = 200 * time.Millisecond
)

// ErrBehind says that the primary does not show what the caller has seen: it failed
// over and lost that, or was reset, or it is not the primary, or it is about to show
// it (a replica can be ahead of a primary that waits for acknowledgements). If it
// goes on, forget the token: its transactions will never come.
var ErrBehind = errors.New("the primary does not show what was seen before")

// GetAfter is [Client.Get] for somebody who has seen the token's transactions: it
// never returns a value that is older. Given the token of a write, he reads his own
// write; given the tokens of values, his reads never go back in time, through
// whatever process or replica they come.
//
// A cached value that was made after them is returned, and any that is cached once
// the invalidators are past them: the first pass where fills read the primary, the
// second where Options.Fills is another database. Until then the value is loaded from
// the primary and not stored, within Options.MaxLoads.
//
// Its errors are those of Get, [ErrSeen] and [ErrBehind]. While it waits for a
// primary that is behind, it tries again and again to get a place among MaxLoads.
func (c *Client) GetAfter(ctx context.Context, token Seen, key Key, ttl time.Duration, fill Fill) (Value, error) {
	if err := check(ttl, key); err != nil {
		return Value{}, err
	}
	set, err := token.Set()
	if err != nil {
		return Value{}, err
	}
	if set.Empty() {
		return c.Get(ctx, key, ttl, fill)
	}
	if !c.trusted(ctx, key.rule) {
		switch key.rule.OnUntrusted() {
		case keys.Bypass:
			return c.bypassAfter(ctx, set, key, fill, Untrusted)
		case keys.Refuse:
			return Value{}, fmt.Errorf("get a key of rule %q: %w", key.Rule(), ErrUntrusted)
		case keys.Serve:
		}
	}
	pass := watermark.First
	if c.o.Fills != c.o.DB {
		// A fill from a replica that lags can put the old value back after the first.
		pass = watermark.Second
	}
	if c.covers(ctx, set, pass, time.Hour) { // what is known is enough to see that
		return c.get(ctx, key, ttl, fill)
	}
	e, err := c.look(ctx, key)
	if err != nil {
		return c.bypassAfter(ctx, set, key, fill, Unreachable)
	}
	if (e.kind == valued || e.kind == negative) && e.known.least.HasAll(set) {
		c.note(key, Hit)
		return e.value(), nil
	}
	if c.covers(ctx, set, pass, askAgain) {
		return c.get(ctx, key, ttl, fill)
	}
	return c.bypassAfter(ctx, set, key, fill, Awaited)
}

// bypassAfter loads from the primary. The load itself asks, on its own connection
// and before its snapshot, whether the primary shows the set, which it nearly always
// does: what a commit has returned for is visible. Between attempts it has no place
// among the loads.
func (c *Client) bypassAfter(ctx context.Context, set gtid.Set, key Key, fill Fill, why Event) (Value, error) {
	c.note(key, why)
	begun := time.Now()
	for pause := soonest; ; pause = min(2*pause, primaryPause) {
		v, err := c.loadShowing(ctx, c.o.DB, key, fill, set)
		if !errors.Is(err, errNotShown) {
			return v, err
		}
		left := primaryLimit - time.Since(begun)
		if left <= 0 {
			return Value{}, fmt.Errorf("get a key of rule %q: %w within %v", key.Rule(), ErrBehind, primaryLimit)
		}
		if !sleep(ctx, min(pause, left)) {
			return Value{}, ctx.Err()
		}
	}
}
