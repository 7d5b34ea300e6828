package cache

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// turnKey says what loads may be shared: those of one key from one database.
type turnKey struct {
	key Key
	db  *sql.DB
}

// turn is the loads of one key that bypass the cache: one runs, and at most one
// waits for its end. Who comes while one runs shares the next, never the running
// one: its snapshot may be older than what the caller has seen.
type turn struct {
	next *call
	load func() // starts next
}

// bypass loads a key from the primary, once that shows the set, and stores nothing.
func (c *Client) bypass(ctx context.Context, set gtid.Set, key Key, fill Fill) (v Value, err error) {
	err = untilShown(ctx, key.rule, func() error {
		v, err = c.loadPast(ctx, c.o.DB, set, key, fill)
		return err
	})
	return v, err
}

// errNotShown says that a server does not show a set of transactions.
var errNotShown = errors.New("the server does not show the transactions")

// loadPast loads a key from db and stores nothing. The snapshot begins after the
// call. The error is errNotShown if the set was not shown there before. There is a
// bound on the loads of one rule, and asking what is shown is part of a load.
func (c *Client) loadPast(ctx context.Context, db *sql.DB, set gtid.Set, key Key, fill Fill) (Value, error) {
	id := turnKey{key, db}
	cl := newCall()
	start := func() {
		c.launch(ctx, func(ctx context.Context) {
			release, err := c.slot(key)
			if err != nil {
				cl.err = err
				return
			}
			defer release()
			cl.entry, cl.err = c.load(ctx, db, key, fill, cl.fit)
		}, func() { c.nextTurn(id) }, cl)
	}
	c.mu.Lock()
	t := c.turns[id]
	switch {
	case t == nil:
		c.turns[id] = &turn{}
	case t.next == nil:
		t.next, t.load = cl, start
		start = nil
	default:
		cl, start = t.next, nil
	}
	cl.join()
	cl.wanted = append(cl.wanted, set)
	c.mu.Unlock()
	if start != nil {
		start()
	}
	v, err := c.await(ctx, cl)
	if err == nil && !cl.entry.known.returned.HasAll(set) {
		return Value{}, errNotShown
	}
	return v, err
}

// fit reports whether a load is of use to anybody who waits for it.
func (cl *call) fit(s session) error {
	for _, set := range cl.wanted {
		if s.returned.HasAll(set) {
			return nil
		}
	}
	return errNotShown
}

// nextTurn is called when a load has ended.
func (c *Client) nextTurn(id turnKey) {
	c.mu.Lock()
	t := c.turns[id]
	start := t.load
	t.next, t.load = nil, nil
	if start == nil {
		delete(c.turns, id)
	}
	c.mu.Unlock()
	if start != nil {
		start()
	}
}

// slot takes one of the places for loads that bypass the cache, of which each rule
// has Options.MaxLoads.
func (c *Client) slot(key Key) (release func(), err error) {
	slots := c.slots[key.rule]
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	default:
		c.note(Overload, key)
		return nil, fmt.Errorf("load a key of rule %q: %w (%d)", key.Rule(), ErrTooManyLoads, cap(slots))
	}
}
