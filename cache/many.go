package cache

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
)

// FillMany reads the values of several keys, in one snapshot; see [Fill]. A key that
// is not in its result has no row. It need not care for keys that it was not asked
// for.
type FillMany func(ctx context.Context, q Querier, missing []Key) (map[Key][]byte, error)

// GetMany is Get for several keys of one rule. It returns their values in the same
// order. Redis is asked in one round trip to each node, and fill is called once for
// all keys that this call has to fill; a second time for those that must be loaded
// past the cache, which counts as one load. If anything fails, all of it does.
func (c *Client) GetMany(ctx context.Context, list []Key, ttl time.Duration, fill FillMany) ([]Value, error) {
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
	if err := m.get(list); err != nil {
		return nil, err
	}
	values := make([]Value, len(list))
	for i, k := range list {
		values[i] = m.found[k]
		values[i].Data = slices.Clone(values[i].Data) // the same key may be there twice
	}
	return values, nil
}

// many is one GetMany.
type many struct {
	c     *Client
	ctx   context.Context
	rule  *keys.Rule
	ttl   time.Duration
	fill  FillMany
	found map[Key]Value
}

func (m *many) get(list []Key) error {
	unique := slices.Clone(list)
	slices.SortFunc(unique, func(a, b Key) int { return strings.Compare(a.text, b.text) })
	unique = slices.Compact(unique)
	if !m.c.trusted(m.ctx, m.rule) {
		switch m.rule.OnUntrusted() {
		case keys.Bypass:
			return m.past(m.c.o.DB, unique, Untrusted)
		case keys.Refuse:
			return fmt.Errorf("get keys of rule %q: %w", m.rule.Name(), ErrUntrusted)
		case keys.Serve:
		}
	}
	var unreachable, busy []Key
	for wait := newPause(m.c.o.Wait); len(unique) > 0; {
		failed, held, err := m.round(unique)
		if err != nil {
			return err
		}
		unreachable, unique = append(unreachable, failed...), held
		if len(held) == 0 {
			break
		}
		if wait.first() {
			m.note(held, Waited)
		}
		if wait.over() || !wait.sleep(m.ctx) {
			busy = held
			break
		}
	}
	if err := m.ctx.Err(); err != nil {
		return err
	}
	return errors.Join(m.past(m.c.o.DB, unreachable, Unreachable), m.past(m.c.o.Fills, busy, Busy))
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
			m.c.note(s.key, Hit)
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
			m.c.note(s.key, Joined)
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
		c.note(s.key, Miss)
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
		entries, err := c.loadMany(ctx, c.o.Fills, list, m.fill)
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

// past loads keys past the cache, all as one load.
func (m *many) past(db *sql.DB, list []Key, why Event) error {
	if len(list) == 0 {
		return nil
	}
	m.note(list, why)
	release, err := m.c.slot(list[0])
	if err != nil {
		return err
	}
	defer release()
	entries, err := m.c.loadMany(m.ctx, db, list, m.fill)
	for i, e := range entries {
		m.found[list[i]] = e.value()
	}
	return err
}

func (m *many) note(list []Key, e Event) {
	for _, k := range list {
		m.c.note(k, e)
	}
}

// loadMany reads keys in one snapshot, which begins after the call.
func (c *Client) loadMany(ctx context.Context, db *sql.DB, list []Key, fill FillMany) (entries []entry, err error) {
	diverted := func() {
		for _, k := range list {
			c.note(k, Diverted)
		}
	}
	err = c.loadFit(ctx, db, nil, diverted, func(db *sql.DB, fit func(session) error) (err error) {
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
