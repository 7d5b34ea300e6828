package binlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

const (
	heartbeat     = time.Second
	streamTimeout = 5 * time.Second // without an event or a heartbeat
	// heldTimeout is how long the server keeps a connection that takes nothing:
	// the gate may hold a transaction, and so the stream, for a long time. The
	// default of 60 s would cut it off.
	heldTimeout = 24 * time.Hour
)

// replicationSource reads events with go-mysql's BinlogSyncer and decodes them
// itself. Everything that a key needs to be certain is in the binlog: column
// names and types as they were when the row was written.
type replicationSource struct {
	history
}

var _ pipeline.Source = (*replicationSource)(nil)

// Run implements pipeline.Source.
//
// Each call makes a new BinlogSyncer and lets it die with its connection. The
// library's own reconnect is off: it resumes from a GTID set that loses tags
// and that contains the transaction that was cut off, and it runs KILL with the
// old connection's id on whatever server answers now (go-mysql v1.16.0
// replication/binlogsyncer.go).
func (r *replicationSource) Run(ctx context.Context, from pipeline.Position, fn func(context.Context, pipeline.Batch) error) error {
	pos, err := parsePosition(from)
	if err != nil {
		return err
	}
	set, err := parseSet(pos.Flavor, pos.Set)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := newDelivered(set)
	d := newDecoder(ctx, r.cfg, r.srv, fn)
	d.asm.ended = func(txn pipeline.Txn) {
		r.progress()
		done.add(txn.GTID)
	}
	read, known := r.verifiable(pos, set)
	d.known, d.remember = known, r.remember
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { cancel(r.watch(ctx, pos.Server, done)) })
	err = r.stream(ctx, read, d)
	cancel(err)
	if d.err != nil { // of fn, or of an event
		err = d.err
	}
	if cause := context.Cause(ctx); cause != nil && d.err == nil {
		err = cause
	}
	return r.classify(err)
}

// stream runs a syncer until it ends, and returns once nothing of it calls the
// decoder any more.
func (r *replicationSource) stream(ctx context.Context, set gtidSet, d *decoder) error {
	conn := &hangUp{}
	stop := context.AfterFunc(ctx, conn.close)
	defer stop()
	defer conn.close()
	syncer := replication.NewBinlogSyncer(r.syncerConfig(ctx, conn, d))
	streamer, err := syncer.StartSyncGTID(set.library())
	if err != nil {
		return fmt.Errorf("start reading the binlog of %s: %w", r.cfg.Addr, err)
	}
	// With a synchronous handler nothing arrives here but the error at the end,
	// which the syncer's goroutine sends as the last thing it does. The syncer is
	// not closed: Close would run KILL over a new connection. Closing the socket
	// ends it as well.
	_, err = streamer.GetEvent(context.Background())
	return fmt.Errorf("read the binlog of %s: %w", r.cfg.Addr, err)
}

func (r *replicationSource) syncerConfig(ctx context.Context, conn *hangUp, d *decoder) replication.BinlogSyncerConfig {
	host, port, err := net.SplitHostPort(r.cfg.Addr)
	if err != nil {
		host, port = r.cfg.Addr, "3306"
	}
	number, _ := strconv.ParseUint(port, 10, 16)
	cfg := replication.BinlogSyncerConfig{
		ServerID:                r.cfg.ServerID,
		Flavor:                  r.srv.Flavor,
		Host:                    host,
		Port:                    uint16(number),
		User:                    r.cfg.User,
		Password:                r.cfg.Password,
		Localhost:               "doubletap",
		HeartbeatPeriod:         heartbeat, // patientConn has the time limit
		DisableRetrySync:        true,
		DiscardGTIDSet:          true,
		RawModeEnabled:          true, // the decoder parses
		EventCacheCount:         1,    // not used with a handler
		SynchronousEventHandler: d,
		Logger:                  slog.New(slog.DiscardHandler), // what matters comes back as an error
		Dialer: func(dctx context.Context, network, addr string) (net.Conn, error) {
			dctx, cancel := context.WithTimeout(dctx, dialTimeout)
			defer cancel()
			stop := context.AfterFunc(ctx, cancel)
			defer stop()
			c, err := (&net.Dialer{}).DialContext(dctx, network, addr)
			if err != nil {
				return nil, err
			}
			conn.set(c)
			return &patientConn{Conn: c}, nil
		},
		Option: func(c *client.Conn) error {
			_, err := c.Execute(fmt.Sprintf("SET SESSION net_write_timeout = %d", int(heldTimeout.Seconds())))
			return err
		},
	}
	if r.cfg.TLS != nil {
		cfg.TLSConfig = tlsFor(r.cfg)
	}
	return cfg
}

// hangUp closes a connection that is dialled somewhere else.
type hangUp struct {
	mu     sync.Mutex
	conn   net.Conn
	closed bool
}

func (h *hangUp) set(c net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conn = c
	if h.closed {
		_ = c.Close()
	}
}

func (h *hangUp) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.conn != nil {
		_ = h.conn.Close()
	}
}

// progress forgets an earlier refusal: a transaction came through since.
func (h *history) progress() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.warned = ""
}

// errHistory says that the server's history is not the one that was followed.
var errHistory = errors.New("the source's history has changed")

// classify notes an error that trying again cannot mend, so that the next Check
// reports a gap instead of an endless loop. The server gives the number 1236
// for many things: most of them Check finds by itself (purged, or never
// executed); the others are given one more try.
func (h *history) classify(err error) error {
	const (
		fatalReading = mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG
		mariaSameID  = 4052
	)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case errors.Is(err, errHistory):
		h.refused = err.Error()
	case serverCode(err) == mariaSameID, serverCode(err) == fatalReading && sameServerID(err):
		return fmt.Errorf("another replica uses the server id %d: give this tailer one of its own: %w", h.cfg.ServerID, err)
	case serverCode(err) == fatalReading && h.warned != "":
		h.refused, h.warned = "the source will not send what follows: "+err.Error(), ""
	case serverCode(err) == fatalReading:
		h.warned = err.Error()
	}
	return err
}
