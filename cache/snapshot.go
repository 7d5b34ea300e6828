package cache

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// ErrUnsafeSession says that a connection's settings would let a fill read what
// is old or was never committed. The error around it says what to set.
var ErrUnsafeSession = errors.New("a fill must not read through this session")

// inSnapshot takes a connection from db, opens a snapshot, calls read, and ends
// the snapshot. It returns bounds of what the snapshot shows. The snapshot begins
// after the call, so a lease taken before is older (docs/cache-protocol.md says why
// that is needed).
//
// Before the snapshot is opened fit is asked about the session, and its error is
// returned. A nil fit takes any.
func inSnapshot(ctx context.Context, db *sql.DB, fit func(session) error, read func(*sql.Conn) error) (b bounds, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return bounds{}, fmt.Errorf("connect for a fill: %w", err)
	}
	defer func() { // also where read panics
		if e := endSnapshot(ctx, conn); e != nil && err == nil {
			// What a connection had read that broke meanwhile may be a part of it.
			err = fmt.Errorf("end a snapshot (does the fill leave rows open?): %w", e)
		}
	}()
	if b, err = openSnapshot(ctx, conn, fit); err != nil {
		return bounds{}, err
	}
	return b, read(conn)
}

// endSnapshot gives a connection back. No snapshot may stay open in the pool: the
// next one to use the connection would read what is old.
func endSnapshot(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "COMMIT")
	if err == nil {
		_ = conn.Close()
		return nil
	}
	go func() { // it waits for rows of a prepared statement that were left open
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = conn.Close()
	}()
	return err
}

// openSnapshot checks a session and opens a read-only snapshot in it.
func openSnapshot(ctx context.Context, conn *sql.Conn, fit func(session) error) (b bounds, err error) {
	s, err := readSession(ctx, conn)
	if err != nil {
		return b, err
	}
	if fit != nil {
		if err := fit(s); err != nil {
			return b, err
		}
	}
	b.least, b.returned = s.shown, s.returned
	// Below REPEATABLE READ the words CONSISTENT SNAPSHOT mean nothing. The servers
	// refuse this statement inside a transaction, which MySQL does not show otherwise.
	if _, err := conn.ExecContext(ctx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
		return b, fmt.Errorf("prepare a snapshot (is a transaction left open on a pooled connection?): %w", err)
	}
	if _, err := conn.ExecContext(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"); err != nil {
		return b, fmt.Errorf("open a snapshot: %w", err)
	}
	if b.most, err = s.most(ctx, conn); err != nil {
		return b, fmt.Errorf("read what a snapshot may show: %w", err)
	}
	return b, nil
}

// session is what a connection says of itself and its server.
type session struct {
	server string   // its identity, as invalidators name it
	shown  gtid.Set // every later snapshot shows it
	// returned holds every transaction whose commit on this server has returned.
	returned gtid.Set
	hidden   bool // a MariaDB server that does not log what it replicates
}

// sessionSQL asks either server in one round trip, as executedSQL does. MySQL adds
// to gtid_executed, and MariaDB to gtid_slave_pos, after the commit in the engine.
// Of what a MariaDB server commits for itself nothing is known to be shown: the
// binlog, and all that speaks of it, is ahead (docs/decisions/tokens.md).
const sessionSQL = `SELECT @@SESSION.autocommit,
	/*!50700 @@SESSION.transaction_isolation, FALSE, @@GLOBAL.gtid_executed, '', FALSE, @@GLOBAL.server_uuid */
	/*M! @@SESSION.tx_isolation, @@SESSION.in_transaction, @@GLOBAL.gtid_slave_pos, @@GLOBAL.gtid_binlog_pos,
	     @@GLOBAL.gtid_slave_pos <> '' AND NOT (@@GLOBAL.log_bin AND @@GLOBAL.log_slave_updates),
	     CONCAT('mariadb-', @@GLOBAL.server_id, '-', COALESCE(
	       (SELECT NULLIF(variable_value, '') FROM information_schema.global_variables WHERE variable_name = 'SERVER_UID'),
	       CONCAT(@@GLOBAL.hostname, ':', @@GLOBAL.port))) */`

func readSession(ctx context.Context, conn *sql.Conn) (s session, err error) {
	var autocommit, inside bool
	var isolation, shown, binlog string
	err = conn.QueryRowContext(ctx, sessionSQL).Scan(&autocommit, &isolation, &inside, &shown, &binlog, &s.hidden, &s.server)
	switch {
	case err != nil:
		return s, fmt.Errorf("read a session's settings: %w", err)
	case !autocommit:
		return s, fmt.Errorf("%w: autocommit is off: leave it on (the default; look for it in the data source name and in init_connect)", ErrUnsafeSession)
	case isolation == "READ-UNCOMMITTED":
		return s, fmt.Errorf("%w: its isolation level is READ UNCOMMITTED: use REPEATABLE READ (the default)", ErrUnsafeSession)
	case inside:
		return s, fmt.Errorf("%w: a transaction is open in it: end each one on the connection that it began on", ErrUnsafeSession)
	}
	if s.shown, err = gtid.Parse(shown); err != nil {
		return s, err
	}
	if s.returned = s.shown; binlog != "" { // MariaDB's: [executedSQL]
		s.returned, err = gtid.Parse(binlog)
	}
	return s, err
}

// ownedSQL is asked once the snapshot is open. What it shows may not yet be in
// gtid_executed, but then it is still owned by the thread that commits it; so the
// owned ones are read first. MariaDB writes the binlog before it commits.
const ownedSQL = `SELECT /*!50700 @@GLOBAL.gtid_owned, @@GLOBAL.gtid_executed */ /*M! @@GLOBAL.gtid_binlog_pos, @@GLOBAL.gtid_slave_pos */`

// slavePosSQL is what a MariaDB snapshot shows of what was replicated: exactly,
// because it is stored in the transactions that it names.
const slavePosSQL = `SELECT GROUP_CONCAT(CONCAT_WS('-', domain_id, server_id, seq_no)) FROM mysql.gtid_slave_pos`

// ownedSet reads gtid_owned: GTIDs of the form "uuid:7#12" or "uuid:tag:7#12", where
// 12 is a thread. MySQL 9.7 prints nothing between them, not even where the next
// UUID begins with digits.
func ownedSet(text string) string {
	var b strings.Builder
	found := uuid.FindAllStringIndex(text, -1)
	for i, at := range found {
		end := len(text)
		if i+1 < len(found) {
			end = found[i+1][0]
		}
		b.WriteString(strings.Trim(owner.ReplaceAllString(text[at[0]:end], ""), ", \n"))
		b.WriteByte(',')
	}
	return b.String()
}

var (
	uuid  = regexp.MustCompile("[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
	owner = regexp.MustCompile("#[0-9]+")
)

// most is asked inside the snapshot.
func (s session) most(ctx context.Context, conn *sql.Conn) (gtid.Set, error) {
	var first, second string
	if err := conn.QueryRowContext(ctx, ownedSQL).Scan(&first, &second); err != nil {
		return gtid.Set{}, err
	}
	if s.hidden {
		// Only here, and only where its user may read the table, is it asked for.
		var replicated sql.NullString
		if conn.QueryRowContext(ctx, slavePosSQL).Scan(&replicated) != nil || !replicated.Valid {
			return gtid.Set{}, ctx.Err()
		}
		second = replicated.String
	}
	if strings.ContainsRune(first, '#') {
		first = ownedSet(first)
	}
	return gtid.Parse(first + "," + second)
}
