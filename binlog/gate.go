package binlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Gate is the visibility gate: it holds a transaction back until the source
// itself says that a reader can see it. A server hands a transaction to its
// binlog readers before the commit is visible, so the stream never proves it.
//
// On MySQL a transaction is visible when its GTID is in gtid_executed; on
// MariaDB when the binlog position of a consistent snapshot has passed it. What
// the server has shown is kept, so a tailer that is behind asks once for many
// transactions. docs/decisions/visibility-gate.md has the measurements.
//
// A Gate is safe for concurrent use; one call waits at a time.
type Gate struct {
	cfg   Config
	hooks pipeline.Hooks

	mu   sync.Mutex // held while waiting; guards what follows
	sess *session
	view view
	uuid string // of the server asked last; "" before the first
	last pipeline.Txn
}

var _ pipeline.Gate = (*Gate)(nil)

// view is what one connection has shown of its server. It is dropped with the
// connection.
type view interface {
	// shows says whether t was visible when the server was asked last.
	shows(t pipeline.Txn) bool
	// ask asks the server, which may take up to askWait to answer, and says
	// whether t is visible. The error is errOtherHistory where the server's
	// history is not the one it had before.
	ask(ctx context.Context, s *session, t pipeline.Txn) (bool, error)
}

const (
	// askWait is how long a server may hold one question. It bounds nothing but
	// the time after which a reset of the server's history is noticed.
	askWait = 500 * time.Millisecond
	// gateRead is the deadline of one answer; a server that is silent for longer
	// is frozen or gone.
	gateRead = 5 * time.Second
)

// errOtherHistory says that a transaction cannot be judged any more: the server
// was restarted, replaced or reset, and the transaction may never become
// visible. The binlog must be read again from the stored position.
var errOtherHistory = errors.New("the source's history changed while waiting; its binlog must be read again")

// NewGate returns a gate on the source; it connects when it is first asked.
// Trouble is told to hooks.Retry.
func NewGate(cfg Config, hooks pipeline.Hooks) *Gate {
	return &Gate{cfg: cfg, hooks: hooks}
}

// Wait blocks until t is visible on the source; there is no time limit. When
// the source goes away, Wait reconnects for ever and asks the server that is
// there then. If that one does not show t, t may be lost with the old server or
// come later: Wait returns an error, the stream must be started again, and it
// brings t once more if t still exists. Any other error is ctx's or says that t
// has no usable GTID or binlog coordinates.
func (g *Gate) Wait(ctx context.Context, t pipeline.Txn) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wentBack(g.last, t) {
		g.drop() // the stream began again, maybe on another server
	}
	g.last = t
	lost := false
	for attempt := 1; ; {
		if g.view != nil && g.view.shows(t) {
			return nil
		}
		visible, err := g.ask(ctx, t, lost)
		switch {
		case visible:
			return nil
		case ctx.Err() != nil:
			g.drop()
			return context.Cause(ctx)
		case err == nil:
			attempt = 1
			continue
		case errors.Is(err, errOtherHistory), errors.Is(err, errNoCoordinates):
			g.drop()
			return fmt.Errorf("wait until %s is visible: %w", t.GTID, err)
		}
		lost = lost || g.sess != nil
		g.drop()
		in := reconnectIn(attempt)
		if g.hooks.Retry != nil {
			g.hooks.Retry("ask the source what is visible", attempt, err, in)
		}
		attempt++
		if !pause(ctx, in) {
			return context.Cause(ctx)
		}
	}
}

// ask asks the server once, connecting first where needed. lost says that a
// connection broke since Wait began.
func (g *Gate) ask(ctx context.Context, t pipeline.Txn, lost bool) (bool, error) {
	if g.sess == nil {
		changed, err := g.open(ctx)
		if err != nil {
			return false, err
		}
		lost = lost || changed
		if _, ok := g.view.(*snapshotView); ok && changed {
			return false, errOtherHistory // coordinates belong to one server
		}
	}
	visible, err := g.view.ask(ctx, g.sess, t)
	if err == nil && !visible && lost {
		return false, errOtherHistory
	}
	return visible, err
}

// open connects and says whether the server is another one than before.
func (g *Gate) open(ctx context.Context) (changed bool, err error) {
	sess, err := openSession(ctx, g.cfg, gateRead, mysql.CLIENT_MULTI_STATEMENTS)
	if err != nil {
		return false, err
	}
	srv, err := detect(ctx, sess)
	if err == nil {
		g.view, err = newView(ctx, sess, srv)
	}
	if err != nil {
		sess.close()
		return false, err
	}
	changed = g.uuid != "" && g.uuid != srv.UUID
	g.sess, g.uuid = sess, srv.UUID
	return changed, nil
}

func newView(ctx context.Context, s *session, srv Server) (view, error) {
	if !srv.MariaDB() {
		return &executedView{}, nil
	}
	return newSnapshotView(ctx, s)
}

// Reset forgets what the server has shown and the connection with it. Call it
// when the stream is started again: the address may lead to another server, or
// the server's history may have been reset, and GTIDs may be in use again.
func (g *Gate) Reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop()
}

// Close gives the connection back. The gate may be used again.
func (g *Gate) Close() { g.Reset() }

func (g *Gate) drop() {
	if g.sess != nil {
		g.sess.close()
	}
	g.sess, g.view = nil, nil
}

// reconnectIn is the wait after the n-th failure in a row, from 1: 50 ms,
// doubled up to 5 s, varied by a half.
func reconnectIn(n int) time.Duration {
	d := min(50*time.Millisecond<<min(n-1, 10), 5*time.Second)
	return d/2 + rand.N(d/2+1)
}

// pause waits for d and says whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
