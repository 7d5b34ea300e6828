package cache

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// Querier reads from a snapshot. It is of use only until the fill returns that it
// was given to.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// querier hides the rest of a connection: a COMMIT would end the snapshot. Its
// queries end with the fill, whatever contexts they are given: rows left open would
// keep the connection for ever.
type querier struct {
	conn *sql.Conn
	fill context.Context //nolint:containedctx // it lives as long
}

func (q querier) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return q.conn.QueryContext(q.within(ctx), query, args...)
}

func (q querier) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return q.conn.QueryRowContext(q.within(ctx), query, args...)
}

func (q querier) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	return q.conn.PrepareContext(q.within(ctx), query)
}

func (q querier) within(ctx context.Context) context.Context {
	if ctx == q.fill {
		return ctx
	}
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(q.fill, cancel)
	return ctx
}

// errOut says that a server may serve no fills.
var errOut = errors.New("the server is too far behind to fill from")

// loadFit calls load with the database that it is given, unless that is for fills
// only and leads to a server that second deletes go on without: then, and where
// that cannot be known, with the primary. Whoever has taken a lease takes it
// before: second deletes that go on without a server later than what is read here
// revoke it. fit is asked about any server; nil: all will do.
func (c *Client) loadFit(ctx context.Context, db *sql.DB, fit func(session) error, diverted func(), load func(*sql.DB, func(session) error) error) error {
	if db == c.o.DB {
		return load(db, fit)
	}
	// Among those that are out, "*" is one that nobody knows: it may be any.
	if said, err := c.readTrust(ctx); err == nil && !said.Expired && !slices.Contains(said.Out, "*") {
		err := load(db, func(s session) error {
			if slices.Contains(said.Out, s.server) {
				return errOut
			}
			if fit != nil {
				return fit(s)
			}
			return nil
		})
		if !errors.Is(err, errOut) {
			return err
		}
	}
	diverted()
	return load(c.o.DB, fit)
}

// load reads one key in a snapshot of its own, which begins after the call, on a
// server that is fit.
func (c *Client) load(ctx context.Context, db *sql.DB, key Key, fill Fill, fit func(session) error) (e entry, err error) {
	err = c.loadFit(ctx, db, fit, func() { c.note(Diverted, key) }, func(db *sql.DB, fit func(session) error) (err error) {
		e, err = loadFrom(ctx, db, fit, key, fill)
		return err
	})
	return e, err
}

// loadFrom is load from any server of db that is fit.
func loadFrom(ctx context.Context, db *sql.DB, fit func(session) error, key Key, fill Fill) (e entry, err error) {
	known, err := snapshotted(ctx, db, fit, func(ctx context.Context, q Querier) error {
		e.kind = valued
		data, err := fill(ctx, q)
		if errors.Is(err, ErrNotFound) || errors.Is(err, sql.ErrNoRows) {
			e.kind = negative // only the fill can say so: what the client asks itself has rows
			return nil
		}
		e.data = data
		return err
	})
	if err != nil {
		return entry{}, fmt.Errorf("load a key of rule %q: %w", key.Rule(), err)
	}
	e.known = known
	return e, nil
}

// snapshotted calls read within a snapshot. Rows that it leaves open are closed.
func snapshotted(ctx context.Context, db *sql.DB, fit func(session) error, read func(context.Context, Querier) error) (bounds, error) {
	return inSnapshot(ctx, db, fit, func(conn *sql.Conn) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		return read(ctx, querier{conn, ctx})
	})
}

// call is one load that several callers may wait for.
type call struct {
	done     chan struct{} // closed when the rest is final
	entry    entry
	err      error
	panicked any

	// Of Client.mu.
	waiting int
	wanted  []gtid.Set // what each of them has seen, of a load past the cache; final when it runs
	cancel  func()     // nil until the load runs; called once, when nobody waits any longer
}

// errNoFill says that a call ended before its load ran: whoever waits for it must
// look for another way.
var errNoFill = errors.New("the fill did not run")

// errExited is what a fill leaves that ends its goroutine, as a test's Fatal does.
var errExited = errors.New("the fill did not return: it has called runtime.Goexit")

func newCall() *call { return &call{done: make(chan struct{})} }

// join counts one more who waits; it is too late if the load runs and nobody does.
// Client.mu must be held.
func (cl *call) join() bool {
	if cl.waiting == 0 && cl.cancel != nil {
		return false
	}
	cl.waiting++
	return true
}

// join counts the caller among those who wait for each of its own calls.
func (c *Client) join(calls ...*call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cl := range calls {
		cl.waiting++
	}
}

// await waits for a call that was joined. The load is cancelled when nobody waits.
func (c *Client) await(ctx context.Context, cl *call) (Value, error) {
	select {
	case <-cl.done:
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		if cl.waiting--; cl.waiting == 0 && cl.cancel != nil {
			cl.cancel()
		}
		return Value{}, ctx.Err()
	}
	if cl.panicked != nil {
		panic(cl.panicked)
	}
	if cl.err != nil {
		return Value{}, cl.err
	}
	v := cl.entry.value()
	v.Data = bytes.Clone(v.Data) // others wait for it too
	return v, nil
}

// launch runs a load in the background, with the values of ctx. It is for all the
// calls: run puts their results in place, and it is cancelled when nobody waits for
// any of them. ended is called before those who wait see the results.
func (c *Client) launch(ctx context.Context, run func(context.Context), ended func(), calls ...*call) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	wanted := int64(len(calls)) // of Client.mu
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.running.Add(1)
	}
	for _, cl := range calls {
		cl.cancel = func() {
			if wanted--; wanted == 0 {
				cancel()
			}
		}
		if cl.waiting == 0 {
			cl.cancel()
		}
	}
	c.mu.Unlock()
	finish := func() {
		cancel()
		ended()
		for _, cl := range calls {
			close(cl.done)
		}
	}
	if closed {
		for _, cl := range calls {
			cl.err = ErrClosed
		}
		finish()
		return
	}
	go func() {
		defer c.running.Done()
		defer finish()
		defer func() {
			if p := recover(); p != nil {
				for _, cl := range calls {
					cl.panicked = fmt.Errorf("a fill panicked: %v\n%s", p, debug.Stack())
				}
			}
		}()
		for _, cl := range calls {
			cl.err = errExited
		}
		run(ctx)
	}()
}
