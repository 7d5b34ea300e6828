package cache

import (
	"context"
	"database/sql"
	"fmt"
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

// bypass loads a key from the primary and stores nothing. The snapshot begins after
// the call. why is one of the events that are a bypass.
func (c *Client) bypass(ctx context.Context, key Key, fill Fill, why Event) (Value, error) {
	return c.loadPast(ctx, c.o.DB, key, fill, why)
}

// loadPast loads a key from db and stores nothing. There is a bound on the loads of
// one rule.
func (c *Client) loadPast(ctx context.Context, db *sql.DB, key Key, fill Fill, why Event) (Value, error) {
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
			cl.entry, cl.err = c.load(ctx, db, key, fill)
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
	c.mu.Unlock()
	c.note(key, why)
	if start != nil {
		start()
	}
	return c.await(ctx, cl)
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
		c.note(key, Overload)
		return nil, fmt.Errorf("load a key of rule %q: %w (%d)", key.Rule(), ErrTooManyLoads, cap(slots))
	}
}
