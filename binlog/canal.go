package binlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/canal"
	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// canalSource reads with go-mysql's canal, which learns the columns of a table
// by asking the server for them. It is for servers that cannot name columns in
// the binlog. canalLimits says what it cannot promise.
type canalSource struct {
	history

	stuck int // times in a row that Run ended with the same kind of error and without progress
}

var _ pipeline.Source = (*canalSource)(nil)

// canalLimits is what the canal driver does not see, in sentences for
// preflight. Each is a property of go-mysql v1.16.0 canal/sync.go, which calls
// no handler then.
func canalLimits() []string {
	return []string{
		"columns are named after the table as it is now: rows from before an ALTER TABLE that moves columns may be read wrongly until the ALTER itself is reached, which makes the whole table stale",
		"a session that writes with binlog_row_image=MINIMAL or NOBLOB is noticed only where a primary key column is missing: left-out columns look like NULL",
		"LOAD DATA in statement format is not seen",
		"partial JSON updates and rows of other unsupported events make everything stale",
		"transactions with tagged GTIDs make the tables that they change stale as a whole",
		"a compressed transaction is decompressed in memory as a whole",
	}
}

// canalEvents bounds the events that are read ahead. Most are about 8 KB, but
// one can hold a row of any size.
const canalEvents = 64

// Run implements pipeline.Source. A Canal object is good for one run.
func (c *canalSource) Run(ctx context.Context, from pipeline.Position, fn func(context.Context, pipeline.Batch) error) error {
	pos, err := parsePosition(from)
	if err != nil {
		return err
	}
	set, err := parseSet(pos.Flavor, pos.Set)
	if err != nil {
		return err
	}
	if set.empty() {
		// Without a set canal reads from the oldest file by position, and never
		// learns a GTID (go-mysql v1.16.0 canal/sync.go).
		return fmt.Errorf("%w: the canal driver cannot start before the first transaction: start at current, or use the driver replication", pipeline.ErrFatal)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := newDelivered(set)
	h := newCanalHandler(ctx, cancel, &c.history, fn)
	h.known = done.clone()
	h.asm.ended = func(txn pipeline.Txn) {
		c.progress()
		c.stuck = 0
		done.add(txn.GTID)
		h.delivered(txn.GTID)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { cancel(c.watch(ctx, pos.Server, done)) })
	err = c.stream(ctx, set, h)
	cancel(err)
	if h.err != nil {
		return h.err
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return c.classify(c.poison(ctx, h, err))
}

// stream runs a Canal until it ends.
func (c *canalSource) stream(ctx context.Context, set gtidSet, h *canalHandler) error {
	conns := &dialer{ctx: ctx, conns: map[net.Conn]struct{}{}}
	defer conns.close()
	stop := context.AfterFunc(ctx, conns.close)
	defer stop()
	cfg, err := c.canalConfig(conns, h)
	if err != nil {
		return err
	}
	cn, err := canal.NewCanal(cfg)
	if err != nil {
		return fmt.Errorf("start canal on %s: %w", c.cfg.Addr, err)
	}
	defer cn.Close()
	// Close would run KILL over a new connection, on whatever server answers
	// then: no new connection is made once the dialer is closed.
	defer conns.close()
	h.canal = cn
	cn.SetEventHandler(h)
	if err = cn.StartFromGTID(set.library()); err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read the binlog of %s: %w", c.cfg.Addr, err)
}

func (c *canalSource) canalConfig(conns *dialer, h *canalHandler) (*canal.Config, error) {
	cfg := canal.NewDefaultConfig()
	cfg.Addr, cfg.User, cfg.Password = c.cfg.Addr, c.cfg.User, c.cfg.Password
	cfg.ServerID, cfg.Flavor = c.cfg.ServerID, c.srv.Flavor
	cfg.HeartbeatPeriod = heartbeat // patientConn has the time limit
	cfg.Dump.ExecutionPath = ""     // the default runs mysqldump
	cfg.TimestampStringLocation = time.UTC
	cfg.DisableRetrySync = true
	cfg.EventCacheCount = canalEvents
	cfg.FillZeroLogPos = true
	cfg.Localhost = "doubletap"
	cfg.Logger = slog.New(h)
	cfg.Dialer = conns.dial
	if c.cfg.TLS != nil {
		cfg.TLSConfig = tlsFor(c.cfg)
	}
	for _, r := range c.cfg.Schema.Rules() {
		db, table := r.TableGlob()
		if strings.Contains(db+table, "`") {
			return nil, fmt.Errorf("rule %q: the canal driver cannot read a table with a backtick in its name", r.Name())
		}
		cfg.IncludeTableRegex = append(cfg.IncludeTableRegex, "^"+globRegexp(db)+`\.`+globRegexp(table)+"$")
	}
	return cfg, nil
}

// globRegexp turns a glob with * and ? into a regular expression.
func globRegexp(glob string) string {
	return strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(glob))
}

// poison deals with an event that canal refuses: it would refuse it for ever.
func (c *canalSource) poison(ctx context.Context, h *canalHandler, err error) error {
	if err == nil || serverCode(err) != 0 || errors.Is(err, context.Canceled) || networkError(err) {
		return err
	}
	if h.asm.open && strings.Contains(err.Error(), "not supported") {
		// The transaction is known, and what cannot be read of it is said.
		h.asm.fn = func(_ context.Context, b pipeline.Batch) error {
			return h.fn(context.WithoutCancel(ctx), b)
		}
		h.asm.invalidate("canal cannot read an event: "+err.Error(), pipeline.Everything)
		if eerr := h.asm.end(ctx); eerr != nil {
			return eerr
		}
		return err
	}
	if c.stuck++; c.stuck >= 3 {
		c.stuck = 0
		c.mu.Lock()
		c.refused = "canal cannot read what follows: " + err.Error()
		c.mu.Unlock()
	}
	return err
}

func networkError(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		strings.Contains(err.Error(), mysql.ErrBadConn.Error())
}

// dialer makes canal's connections, the stream and the one for SQL, and ends
// them with one call. canal sets no deadline on the latter: a server that is
// frozen would hold it for ever (go-mysql v1.16.0 canal/canal.go).
type dialer struct {
	ctx    context.Context
	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := d.ctx.Err(); err != nil {
		return nil, err
	}
	c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	d.conns[c] = struct{}{}
	return &patientConn{Conn: c}, nil
}

func (d *dialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for c := range d.conns {
		_ = c.Close()
	}
}
