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
	return c.getAfter(ctx, set, key, ttl, fill)
}

// getAfter is what Get and GetAfter do.
func (c *Client) getAfter(ctx context.Context, set gtid.Set, key Key, ttl time.Duration, fill Fill) (Value, error) {
	s, err := c.sift(ctx, set, key)
	switch {
	case err != nil:
		return Value{}, err
	case len(s.usual) > 0:
		return c.get(ctx, key, ttl, fill)
	case len(s.past) > 0:
		return c.bypass(ctx, set, key, fill)
	}
	return s.found[key], nil
}

// sifted is keys by how somebody is to get them who has seen some transactions.
type sifted struct {
	found map[Key]Value // what the cache holds of these shows the transactions
	usual []Key         // what the cache holds is right, whatever it is, and so is a fill
	past  []Key         // to be loaded from the primary, once that shows the transactions
}

// sift says how somebody who has seen a set is to get keys of one rule. It costs no
// round trip if the set is empty, or the invalidators are known to be past it; else
// one to each node to look, and one to ask how far they are, if that is not enough.
func (c *Client) sift(ctx context.Context, set gtid.Set, list ...Key) (s sifted, err error) {
	rule := list[0].rule
	if !c.trusted(ctx, rule) {
		switch rule.OnUntrusted() {
		case keys.Bypass:
			c.note(Untrusted, list...)
			return sifted{past: list}, nil
		case keys.Refuse:
			return s, fmt.Errorf("get a key of rule %q: %w", rule.Name(), ErrUntrusted)
		case keys.Serve:
		}
	}
	pass := watermark.First
	if c.o.Fills != c.o.DB {
		// A fill from a replica that lags can put the old value back after the first.
		pass = watermark.Second
	}
	if set.Empty() || c.covers(ctx, set, pass, time.Hour) { // what is known is enough to see that
		return sifted{usual: list}, nil
	}
	s.found = map[Key]Value{}
	var old []Key
	for i, cmd := range c.look(ctx, list...) {
		k := list[i]
		e, err := cmd.entry()
		switch {
		case err != nil:
			c.note(Unreachable, k)
			s.past = append(s.past, k)
		case (e.kind == valued || e.kind == negative) && e.known.least.HasAll(set):
			c.note(Hit, k)
			s.found[k] = e.value()
		default:
			old = append(old, k)
		}
	}
	if len(old) > 0 && c.covers(ctx, set, pass, askAgain) {
		s.usual = old
		return s, nil
	}
	c.note(Awaited, old...)
	s.past = append(s.past, old...)
	return s, nil
}

// untilShown calls load, which loads from the primary, until its error is not
// errNotShown. The load itself asks, on its own connection and before its snapshot,
// whether the primary shows what the caller has seen, which it nearly always does:
// what a commit has returned for is visible. Between attempts there is no place held
// among the loads.
func untilShown(ctx context.Context, rule *keys.Rule, load func() error) error {
	begun := time.Now()
	for pause := soonest; ; pause = min(2*pause, primaryPause) {
		if err := load(); !errors.Is(err, errNotShown) {
			return err
		}
		left := primaryLimit - time.Since(begun)
		if left <= 0 {
			return fmt.Errorf("get a key of rule %q: %w within %v", rule.Name(), ErrBehind, primaryLimit)
		}
		if !sleep(ctx, min(pause, left)) {
			return ctx.Err()
		}
	}
}
