package binlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// The drivers that Config.Driver can name.
const (
	DriverReplication = "replication"
	DriverCanal       = "canal"
)

// ChooseDriver returns the driver for a server: the one that cfg names, else
// replication where the server can name columns in the binlog
// (binlog_row_metadata=FULL), canal where it cannot.
func ChooseDriver(cfg Config, srv Server) (string, error) {
	switch cfg.Driver {
	case "":
		if srv.FullMetadata {
			return DriverReplication, nil
		}
		return DriverCanal, nil
	case DriverReplication, DriverCanal:
		return cfg.Driver, nil
	}
	return "", fmt.Errorf("source driver %q is unknown: use %q, %q, or leave it out", cfg.Driver, DriverReplication, DriverCanal)
}

// NewSource returns the source for a server that Detect has described. It does
// not connect. cfg.ServerID must have been resolved: see LeaseServerID.
func NewSource(cfg Config, srv Server) (pipeline.Source, error) {
	driver, err := ChooseDriver(cfg, srv)
	if err != nil {
		return nil, err
	}
	if cfg.ServerID == 0 {
		return nil, errors.New("the source has no server id: set server_id, or lease one first")
	}
	if cfg.Schema == nil {
		return nil, errors.New("the source has no key schema")
	}
	if driver == DriverCanal {
		return &canalSource{history: history{cfg: cfg, srv: srv}}, nil
	}
	return &replicationSource{history: history{cfg: cfg, srv: srv}}, nil
}

// history is what both drivers know of the server's past: where to start, what
// can still be had, how positions move.
type history struct {
	cfg Config
	srv Server

	mu      sync.Mutex
	parsed  pipeline.Position // the position that set belongs to
	set     gtidSet
	recent  []identity // delivered lately, oldest first
	purged  gtidSet    // as the last Check saw it
	refused string     // why the server refused to go on, twice in a row without progress
	warned  string     // the same, once
}

// Advance implements pipeline.Source. It is safe for concurrent use.
func (h *history) Advance(p pipeline.Position, gtids []string) (pipeline.Position, error) {
	pos, err := parsePosition(p)
	if err != nil {
		return "", err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	set := h.set
	if h.parsed != p || set == nil {
		if set, err = parseSet(pos.Flavor, pos.Set); err != nil {
			return "", err
		}
	}
	h.set, h.parsed = nil, "" // a failure below leaves the set half advanced
	for _, g := range gtids {
		if g == "" {
			continue // belongs to no transaction
		}
		if err := set.add(g); err != nil {
			return "", err
		}
	}
	pos.Set = set.String()
	if last, ok := h.newest(gtids); ok {
		pos.Last = &last
	}
	h.set, h.parsed = set, pos.encode()
	return h.parsed, nil
}

// GTIDSet returns a position's GTID set as the server writes it, for the events
// that belong to a position and to no transaction.
func (h *history) GTIDSet(p pipeline.Position) string {
	pos, err := parsePosition(p)
	if err != nil {
		return string(p)
	}
	return pos.Set
}

// Start implements pipeline.Source.
func (h *history) Start(ctx context.Context, spec string) (pipeline.Position, error) {
	s, err := openSession(ctx, h.cfg, readTimeout)
	if err != nil {
		return "", err
	}
	defer s.close()
	now, err := readState(ctx, s, h.srv.Flavor)
	if err != nil {
		return "", err
	}
	pos := position{Flavor: h.srv.Flavor, Server: now.server}
	switch spec {
	case "current", "":
		pos.Set = now.executed.String()
	case "earliest":
		pos.Set = now.purged.String()
	default:
		set, err := parseSet(h.srv.Flavor, spec)
		if err != nil {
			return "", fmt.Errorf("%w: it is none of current, earliest, and a GTID set of %s: %w", pipeline.ErrFatal, h.srv.Flavor, err)
		}
		if set.empty() {
			return "", fmt.Errorf("%w: the GTID set is empty; use earliest", pipeline.ErrFatal)
		}
		if why := now.cannotResume(set); why != "" {
			return "", fmt.Errorf("%w: %s", pipeline.ErrFatal, why)
		}
		pos.Set = set.String()
	}
	return pos.encode(), nil
}

// Check implements pipeline.Source.
func (h *history) Check(ctx context.Context, p pipeline.Position) error {
	pos, err := parsePosition(p)
	if err != nil {
		return err
	}
	s, err := openSession(ctx, h.cfg, readTimeout)
	if err != nil {
		return err
	}
	defer s.close()
	flavor, err := flavorOf(ctx, s)
	if err != nil {
		return err
	}
	if flavor != h.srv.Flavor {
		// The decoder was made for the other one: only a new Source can go on.
		return fmt.Errorf("%w: the source at %s was %s and is %s now; restart the tailer", pipeline.ErrFatal, h.cfg.Addr, h.srv.Flavor, flavor)
	}
	now, set, err := settled(ctx, s, pos, flavor)
	if err != nil {
		return err
	}
	h.mu.Lock()
	refused := h.refused
	h.refused, h.purged = "", now.purged // warned stays until a transaction comes
	h.mu.Unlock()
	gap := func(next string, reason string) error {
		return &pipeline.GapError{Reason: reason, Next: position{Flavor: flavor, Set: next, Server: now.server}.encode()}
	}
	if set == nil {
		return gap(now.executed.String(), fmt.Sprintf("the position is one of %s, the source is %s", pos.Flavor, flavor))
	}
	if why := now.cannotResume(set); why != "" {
		return gap(now.executed.String(), why)
	}
	if pos.Server != "" && now.server != "" && pos.Server != now.server {
		// Nothing of the new server is left out by going on where the old one
		// ended. But what the old one committed last may never have come here,
		// and may have been read into caches.
		return gap(pos.Set, fmt.Sprintf("another server answers (%s, before %s): its predecessor's last commits may be lost", now.server, pos.Server))
	}
	if refused != "" {
		return gap(now.executed.String(), refused)
	}
	return nil
}

// settleTime is how long Check waits for transactions that were delivered and
// are not in gtid_executed yet. The event can come before that; only one with
// something to publish waits at the gate.
const settleTime = 3 * time.Second

// settled reads the server's state and the position's set, nil if that is of
// another flavor.
func settled(ctx context.Context, s *session, pos position, flavor string) (state, gtidSet, error) {
	limit := time.Now().Add(settleTime)
	for {
		now, err := readState(ctx, s, flavor)
		if err != nil || pos.Flavor != flavor {
			return now, nil, err
		}
		set, err := parseSet(flavor, pos.Set)
		if err != nil || now.executed.contains(set) || pos.Server != now.server || time.Now().After(limit) {
			return now, set, err
		}
		select {
		case <-ctx.Done():
			return now, set, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// state is what a server has and what it no longer has.
type state struct {
	executed, purged gtidSet
	server           string
}

// cannotResume says why a set cannot be gone on from, "" if it can: what was
// purged must be in it, and all of it must have been executed. The second is
// what the protocol hides after a failover or a restore.
func (s state) cannotResume(set gtidSet) string {
	if !s.executed.contains(set) {
		return fmt.Sprintf("the source never executed all of %q; it has %q (it was reset, restored, or is another server)", set, s.executed)
	}
	if !set.contains(s.purged) {
		return fmt.Sprintf("transactions after %q are no longer in the binlogs; purged are %q", set, s.purged)
	}
	return ""
}

func flavorOf(ctx context.Context, s *session) (string, error) {
	version, err := s.value(ctx, "SELECT VERSION()")
	if err != nil {
		return "", err
	}
	if strings.Contains(version, "MariaDB") {
		return mysql.MariaDBFlavor, nil
	}
	return mysql.MySQLFlavor, nil
}

// readState asks for what was executed before it asks for what was purged, so
// that a purge between the two is seen.
func readState(ctx context.Context, s *session, flavor string) (state, error) {
	if flavor == mysql.MariaDBFlavor {
		return readMariaState(ctx, s)
	}
	var st state
	for _, q := range []struct {
		sql string
		set *gtidSet
	}{{"SELECT @@global.gtid_executed", &st.executed}, {"SELECT @@global.gtid_purged", &st.purged}} {
		text, err := s.value(ctx, q.sql)
		if err != nil {
			return st, fmt.Errorf("%s: %w", q.sql, err)
		}
		if *q.set, err = parseSet(flavor, text); err != nil {
			return st, err
		}
	}
	var err error
	st.server, err = s.value(ctx, "SELECT @@global.server_uuid")
	return st, err
}

// readMariaState reads the newest GTID per domain in the binlog, which is what
// is streamed (gtid_current_pos also counts what a replica applied without
// writing it to its binlog), and the position before the oldest binlog file.
func readMariaState(ctx context.Context, s *session) (state, error) {
	var st state
	text, err := s.value(ctx, "SELECT @@global.gtid_binlog_pos")
	if err != nil {
		return st, err
	}
	if st.executed, err = parseSet(mysql.MariaDBFlavor, text); err != nil {
		return st, err
	}
	logs, err := s.query(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return st, fmt.Errorf("list the binlogs (needs the privilege BINLOG MONITOR): %w", err)
	}
	if len(logs) == 0 || len(logs[0]) == 0 {
		return st, errors.New("the source lists no binlog: turn log_bin on")
	}
	oldest, err := s.value(ctx, "SELECT BINLOG_GTID_POS("+quote(logs[0][0])+", 4)")
	if err != nil {
		return st, err
	}
	if st.purged, err = parseSet(mysql.MariaDBFlavor, oldest); err != nil {
		return st, err
	}
	srv, err := detect(ctx, s)
	st.server = srv.UUID
	return st, err
}
