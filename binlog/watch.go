package binlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// watchEvery is how often the history is looked at while a stream is open.
const watchEvery = time.Second

// delivered is the set of the transactions that a stream has handed over.
type delivered struct {
	mu  sync.Mutex
	set gtidSet
}

func newDelivered(from gtidSet) *delivered { return &delivered{set: from.clone()} }

func (d *delivered) add(gtid string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.set.add(gtid) // it parsed when the event was read
}

func (d *delivered) clone() gtidSet {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.set.clone()
}

// watch looks from a second connection at what the open stream does not show: a
// server that runs RESET BINARY LOGS AND GTIDS sends its readers neither an
// error nor another event, while its heartbeats go on (measured on MySQL
// 9.7.4). It returns errHistory then, or the side connection's error: a stream
// that is not watched is not to be trusted.
func (h *history) watch(ctx context.Context, server string, done *delivered) error {
	s, err := openSession(ctx, h.cfg, streamTimeout)
	if err != nil {
		return err
	}
	defer s.close()
	// Only what was once seen as executed must stay so: an event can come before
	// its transaction is in gtid_executed.
	w := watcher{history: h, session: s, server: server, sure: done.clone()}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if err := w.look(ctx, done); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

type watcher struct {
	*history
	session *session
	server  string
	sure    gtidSet // executed, as the server itself said
	file    string  // binlog coordinates, which only grow
	offset  uint64
}

func (w *watcher) look(ctx context.Context, done *delivered) error {
	candidate := done.clone()
	executed, server, err := w.read(ctx)
	if err != nil {
		return fmt.Errorf("watch the history of %s: %w", w.cfg.Addr, err)
	}
	if w.server != "" && server != w.server {
		return fmt.Errorf("watch the history of %s: another server answers (%s, before %s)", w.cfg.Addr, server, w.server)
	}
	if !executed.contains(w.sure) {
		return fmt.Errorf("%w: %q was executed and is no longer: binlogs and GTIDs were reset", errHistory, w.sure)
	}
	if executed.contains(candidate) {
		w.sure = candidate
	}
	return w.coordinates(ctx)
}

func (w *watcher) read(ctx context.Context) (executed gtidSet, server string, err error) {
	sql := "SELECT @@global.gtid_executed, @@global.server_uuid"
	if w.srv.MariaDB() {
		sql = "SELECT @@global.gtid_binlog_pos, ''"
	}
	rows, err := w.session.query(ctx, sql)
	if err != nil {
		return nil, "", err
	}
	if len(rows) != 1 || len(rows[0]) != 2 {
		return nil, "", fmt.Errorf("%s: unexpected answer", sql)
	}
	server = rows[0][1]
	if w.srv.MariaDB() {
		server = w.server
	}
	executed, err = parseSet(w.srv.Flavor, rows[0][0])
	return executed, server, err
}

// coordinates notices a reset that was followed by enough transactions to fill
// the GTID set again: the binlog's file number or offset goes back.
func (w *watcher) coordinates(ctx context.Context) error {
	rows, err := w.session.query(ctx, w.statusStatement())
	if serverCode(err) == mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR {
		return nil // preflight asks for the privilege; the GTID set alone shows most
	}
	if err != nil || len(rows) == 0 || len(rows[0]) < 2 {
		return err
	}
	offset, err := strconv.ParseUint(rows[0][1], 10, 64)
	if err != nil {
		return fmt.Errorf("binlog offset %q: %w", rows[0][1], err)
	}
	file := rows[0][0]
	if older(file, offset, w.file, w.offset) {
		return fmt.Errorf("%w: the binlog went back from %s:%d to %s:%d", errHistory, w.file, w.offset, file, offset)
	}
	w.file, w.offset = file, offset
	return nil
}

// statusStatement is SHOW MASTER STATUS under the name that the server knows.
func (w *watcher) statusStatement() string {
	if !w.srv.MariaDB() && versionAtLeast(w.srv.Version, 8, 2) {
		return "SHOW BINARY LOG STATUS"
	}
	return "SHOW MASTER STATUS"
}

func versionAtLeast(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	return errA == nil && errB == nil && (a > major || a == major && b >= minor)
}

// older compares coordinates. Files compare by their number, which may have
// more digits than before; another base name says nothing.
func older(file string, offset uint64, thanFile string, thanOffset uint64) bool {
	base, n := fileNumber(file)
	thanBase, m := fileNumber(thanFile)
	if base != thanBase || m == 0 {
		return false
	}
	return n < m || n == m && offset < thanOffset
}

func fileNumber(file string) (base string, n uint64) {
	i := strings.LastIndexByte(file, '.')
	if i < 0 {
		return file, 0
	}
	n, err := strconv.ParseUint(file[i+1:], 10, 64)
	if err != nil {
		return file, 0
	}
	return file[:i], n
}

// sameServerID says whether the server ended the stream because another replica
// came with the same identity.
func sameServerID(err error) bool {
	text := err.Error()
	return strings.Contains(text, "same server_uuid") || strings.Contains(text, "same server_id")
}
