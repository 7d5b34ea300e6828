package cache

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/keys"
)

// FillMany reads the values of several keys, in one snapshot; see [Fill]. A key that
// is not in its result has no row. It need not care for keys that it was not asked
// for.
type FillMany func(ctx context.Context, q Querier, missing []Key) (map[Key][]byte, error)

// GetMany is Get for several keys of one rule. It returns their values in the same
// order. Redis is asked in one round trip to each node, and fill is called once for
// all keys that this call has to fill; again for those that must be loaded past the
// cache, which count as one load: a second one, where Options.Fills is another
// database, for those that other processes fill. If anything fails, all of it does.
func (c *Client) GetMany(ctx context.Context, list []Key, ttl time.Duration, fill FillMany) ([]Value, error) {
	return c.GetManyAfter(ctx, "", list, ttl, fill)
}

// GetManyAfter is [Client.GetMany] for somebody who has seen the token's
// transactions, as [Client.GetAfter] is Get: no value is older. One round trip to
// each Redis node looks whether what the cache holds is new enough, and one more asks
// for all keys together how far the invalidators are. What must be loaded past the
// cache is one load, from the primary, once that shows the token's transactions.
//
// Its errors are those of GetMany, [ErrSeen] and [ErrBehind].
func (c *Client) GetManyAfter(ctx context.Context, token Seen, list []Key, ttl time.Duration, fill FillMany) ([]Value, error) {
	set, err := token.Set()
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, nil
	}
	if err := check(ttl, list...); err != nil {
		return nil, err
	}
	m := &many{c: c, ctx: ctx, rule: list[0].rule, ttl: ttl, fill: fill, found: map[Key]Value{}}
	for _, k := range list {
		if k.rule != m.rule {
			return nil, fmt.Errorf("get several keys: of rules %q and %q: ask for one rule at a time", m.rule.Name(), k.Rule())
		}
	}
	if err := m.get(set, list); err != nil {
		return nil, err
	}
	values := make([]Value, len(list))
	for i, k := range list {
		values[i] = m.found[k]
		values[i].Data = slices.Clone(values[i].Data) // the same key may be there twice
	}
	return values, nil
}

// many is one GetMany or GetManyAfter.
type many struct {
	c     *Client
	ctx   context.Context
	rule  *keys.Rule
	ttl   time.Duration
	fill  FillMany
	found map[Key]Value
}

func (m *many) get(set gtid.Set, list []Key) error {
	unique := slices.Clone(list)
	slices.SortFunc(unique, func(a, b Key) int { return strings.Compare(a.text, b.text) })
	s, err := m.c.sift(m.ctx, set, slices.Compact(unique)...)
	if err != nil {
		return err
	}
	maps.Copy(m.found, s.found)
	unreachable, busy, err := m.through(s.usual)
	if err != nil {
		return err
	}
	m.c.note(Unreachable, unreachable...)
	m.c.note(Busy, busy...)
	if len(s.past) == 0 {
		set = gtid.Set{} // no key left that needs it: the invalidators are past it
	}
	past := slices.Concat(s.past, unreachable)
	if m.c.o.Fills == m.c.o.DB {
		past, busy = append(past, busy...), nil
	}
	return errors.Join(m.past(m.c.o.DB, set, past), m.past(m.c.o.Fills, gtid.Set{}, busy))
}

// through gets keys through the cache, all but those for which Redis had no answer,
// and those that other processes fill for longer than Options.Wait.
func (m *many) through(list []Key) (failed, held []Key, err error) {
	if len(list) == 0 {
		return nil, nil, nil
	}
	failed, held, err = m.round(list)
	for wait := newPause(m.c.o.Wait); err == nil && len(held) > 0 && !wait.over(); {
		if wait.first() {
			m.c.note(Waited, held...)
		}
		if !wait.sleep(m.ctx) {
			break
		}
		var more []Key
		more, held, err = m.round(held)
		failed = append(failed, more...)
	}
	if err == nil {
		err = m.ctx.Err()
	}
	return failed, held, err
}

// round looks at each key, fills those that it gets leases for, and waits for fills
// of this process. It returns the keys for which Redis had no answer, and those that
// other processes fill.
func (m *many) round(list []Key) (failed, held []Key, err error) {
	all := make([]*seeker, len(list))
	for i, k := range list {
		all[i] = newSeeker(k)
	}
	m.c.round(m.ctx, all...)
	var mine, joined []*seeker
	for _, s := range all {
		if s.mine() {
			mine = append(mine, s)
			continue
		}
		m.c.drop(s)
		switch {
		case s.found():
			m.c.note(Hit, s.key)
			m.found[s.key] = s.e.value()
		case s.other != nil:
			joined = append(joined, s)
		case s.err != nil:
			failed = append(failed, s.key)
		default:
			held = append(held, s.key)
		}
	}
	// First our own fills: another call may be waiting for them as we wait for its.
	err = m.lead(mine)
	for _, s := range joined {
		v, e := m.c.await(m.ctx, s.other)
		switch {
		case errors.Is(e, errNoFill):
			held = append(held, s.key)
		case e != nil:
			err = errors.Join(err, e)
		default:
			m.c.note(Joined, s.key)
			m.found[s.key] = v
		}
	}
	return failed, held, err
}

// lead fills under the leases that the searches have.
func (m *many) lead(mine []*seeker) error {
	if len(mine) == 0 {
		return nil
	}
	c := m.c
	list, calls := make([]Key, len(mine)), make([]*call, len(mine))
	for i, s := range mine {
		list[i], calls[i] = s.key, s.call
		c.note(Miss, s.key)
	}
	c.settle(mine...)
	c.join(calls...)
	c.launch(m.ctx, func(ctx context.Context) {
		loaded := false
		defer func() {
			if !loaded { // also where fill panics
				c.giveUp(ctx, mine...)
			}
		}()
		entries, err := c.loadMany(ctx, c.o.Fills, list, m.fill, nil)
		all := make([]filled, len(entries))
		for i, cl := range calls {
			if cl.err = err; err == nil {
				cl.entry, all[i] = entries[i], filled{list[i], mine[i].e.token, entries[i]}
			}
		}
		if err == nil {
			loaded = true
			c.keep(ctx, m.ttl, all...)
		}
	}, func() {
		for _, s := range mine {
			c.forget(s)
		}
	}, calls...)
	var failed error
	for i, cl := range calls {
		v, err := c.await(m.ctx, cl)
		if err != nil && failed == nil {
			failed = err
		}
		m.found[list[i]] = v
	}
	return failed
}

// past loads keys past the cache, all as one load, once db shows the set.
func (m *many) past(db *sql.DB, set gtid.Set, list []Key) error {
	if len(list) == 0 {
		return nil
	}
	return untilShown(m.ctx, m.rule, func() error { return m.loadPast(db, set, list) })
}

// loadPast is [Client.loadPast] for several keys, but it is shared with nobody.
func (m *many) loadPast(db *sql.DB, set gtid.Set, list []Key) error {
	c, cl := m.c, newCall()
	cl.wanted = []gtid.Set{set}
	var entries []entry
	c.join(cl)
	c.launch(m.ctx, func(ctx context.Context) {
		release, err := c.slot(list[0])
		if err != nil {
			cl.err = err
			return
		}
		defer release()
		entries, cl.err = c.loadMany(ctx, db, list, m.fill, cl.fit)
	}, func() {}, cl)
	if _, err := c.await(m.ctx, cl); err != nil {
		return err
	}
	for i, e := range entries {
		m.found[list[i]] = e.value()
	}
	return nil
}

// loadMany reads keys in one snapshot, which begins after the call, on a server that
// is fit.
func (c *Client) loadMany(ctx context.Context, db *sql.DB, list []Key, fill FillMany, fit func(session) error) (entries []entry, err error) {
	err = c.loadFit(ctx, db, fit, func() { c.note(Diverted, list...) }, func(db *sql.DB, fit func(session) error) (err error) {
		entries, err = loadManyFrom(ctx, db, fit, list, fill)
		return err
	})
	return entries, err
}

// loadManyFrom is loadMany from any server of db that is fit.
func loadManyFrom(ctx context.Context, db *sql.DB, fit func(session) error, list []Key, fill FillMany) ([]entry, error) {
	var got map[Key][]byte
	known, err := snapshotted(ctx, db, fit, func(ctx context.Context, q Querier) (err error) {
		got, err = fill(ctx, q, slices.Clone(list))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load %d keys of rule %q: %w", len(list), list[0].Rule(), err)
	}
	entries := make([]entry, len(list))
	for i, k := range list {
		entries[i] = entry{kind: negative, known: known}
		if data, there := got[k]; there {
			entries[i] = entry{kind: valued, known: known, data: data}
		}
	}
	return entries, nil
}
