package binlog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
)

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
