package cache

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// ErrUnsafeSession says that a connection's settings would let a fill read what
// is old or was never committed. The error around it says what to set.
var ErrUnsafeSession = errors.New("a fill must not read through this session")

// inSnapshot takes a connection from db, opens a snapshot, calls read, and ends
// the snapshot. It returns transactions that the snapshot is known to hold; the
// set is empty where the server cannot say. The snapshot begins after the call, so
// a lease taken before is older (docs/cache-protocol.md says why that is needed).
func inSnapshot(ctx context.Context, db *sql.DB, read func(*sql.Conn) error) (gtid.Set, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return gtid.Set{}, fmt.Errorf("connect for a fill: %w", err)
	}
	defer func() {
		// Also where read panics. No snapshot may stay open in the pool: the next one
		// to use the connection would read what is old.
		if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
		_ = conn.Close()
	}()
	held, err := openSnapshot(ctx, conn)
	if err != nil {
		return gtid.Set{}, err
	}
	return held, read(conn)
}

// sessionSQL asks either server in one round trip, as executedSQL does. What it
// reads of GTIDs is visible to every snapshot that is opened after it:
//
//   - MySQL adds to gtid_executed after the commit in the engine.
//   - MariaDB adds to gtid_binlog_pos before it. But outside a snapshot the status
//     variables binlog_snapshot_% are the place in the binlog up to which engines
//     have committed; it is worth nothing where each thread commits for itself.
//     Inside a snapshot they are early after all: measured on 11.8.6, 8 of 3,600
//     snapshots under load did not show the last group of commits before their
//     place, against 0 of 7,000 here. BINLOG_GTID_POS takes less than 1 ms since
//     11.4, which indexes binlogs; before, the server reads the file up to there.
//   - MariaDB adds to gtid_slave_pos after the commit of what it replicates: that is
//     all that a replica without a binlog has.
const sessionSQL = `SELECT @@SESSION.autocommit,
	/*!50700 @@SESSION.transaction_isolation, FALSE, @@GLOBAL.gtid_executed, FALSE */
	/*M! @@SESSION.tx_isolation, @@SESSION.in_transaction, @@GLOBAL.gtid_slave_pos,
	     @@GLOBAL.log_bin AND @@GLOBAL.binlog_optimize_thread_scheduling */`

// binlogSQL is for a MariaDB server that has a binlog; others refuse it.
const binlogSQL = `SELECT BINLOG_GTID_POS(
	(SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'binlog_snapshot_file'),
	(SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'binlog_snapshot_position'))`

// openSnapshot checks a session and opens a read-only snapshot in it.
func openSnapshot(ctx context.Context, conn *sql.Conn) (held gtid.Set, err error) {
	var autocommit, inside, binlog bool
	var isolation string
	var shown, own sql.NullString
	err = conn.QueryRowContext(ctx, sessionSQL).Scan(&autocommit, &isolation, &inside, &shown, &binlog)
	switch {
	case err != nil:
		return held, fmt.Errorf("read a session's settings: %w", err)
	case !autocommit:
		return held, fmt.Errorf("%w: autocommit is off: leave it on (the default; look for it in the data source name and in init_connect)", ErrUnsafeSession)
	case isolation == "READ-UNCOMMITTED":
		return held, fmt.Errorf("%w: its isolation level is READ UNCOMMITTED: use REPEATABLE READ (the default)", ErrUnsafeSession)
	case inside:
		return held, fmt.Errorf("%w: a transaction is open in it: end each one on the connection that it began on", ErrUnsafeSession)
	}
	if binlog {
		if err := conn.QueryRowContext(ctx, binlogSQL).Scan(&own); err != nil {
			return held, fmt.Errorf("read a place in the binlog: %w", err)
		}
	}
	if held, err = gtid.Parse(shown.String + "," + own.String); err != nil {
		return held, err
	}
	// Below REPEATABLE READ the words CONSISTENT SNAPSHOT mean nothing. The servers
	// refuse this statement inside a transaction, which MySQL does not show otherwise.
	if _, err := conn.ExecContext(ctx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
		return held, fmt.Errorf("prepare a snapshot (is a transaction left open on a pooled connection?): %w", err)
	}
	if _, err := conn.ExecContext(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"); err != nil {
		return held, fmt.Errorf("open a snapshot: %w", err)
	}
	return held, nil
}
