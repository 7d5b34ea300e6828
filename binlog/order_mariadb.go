package binlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// place is a place in one server's binlog.
type place struct {
	file string
	pos  uint64
}

// compare says whether p is before q (-1), is q (0), or is behind it (1). The
// zero place is before all others.
func (p place) compare(q place) int { return comparePos(p.file, p.pos, q.file, q.pos) }

// commitOrder tells how far the commits of a MariaDB server are visible, from
// the places that its consistent snapshots name.
//
// A snapshot names the end of the last transaction that engines have committed,
// with two exceptions, both found on 11.8.6 with commits held up after the
// binlog's sync: a new binlog file and a Binlog_checkpoint event move that place
// too, past transactions that no reader sees yet. The checkpoint event that names
// its own file is the last one in the file, and is written when every transaction
// of the older files is committed. So a place counts when it is behind that event.
type commitOrder struct {
	seen    place // up to here every transaction is visible
	sure    bool  // seen came from a snapshot
	file    string
	next    uint64 // file was read up to here in search of its checkpoint event
	own     uint64 // the end of that event; 0: not found yet
	first   uint64 // the first transaction before it; 0: none
	unclear place  // the last snapshot that did not count
	since   time.Time
}

// quietAfter is how long a snapshot's place must stand still before it is worth
// asking InnoDB whether any commit is under way.
const quietAfter = 200 * time.Millisecond

// advance takes in a snapshot. quiet says that whatever was written before the
// call is visible. The error is errOtherHistory after a RESET MASTER.
func (c *commitOrder) advance(ctx context.Context, s *session, at place) (quiet bool, err error) {
	if at.compare(c.seen) < 0 && (c.sure || binlogNumber(at.file) < binlogNumber(c.seen.file)) {
		return false, errOtherHistory
	}
	if c.file != at.file {
		c.file, c.next, c.own, c.first = at.file, 0, 0, 0
	}
	if c.own == 0 {
		if err := c.search(ctx, s); err != nil {
			return false, err
		}
	}
	if c.own != 0 && at.pos > c.own {
		c.seen, c.sure = at, true
		return false, nil
	}
	switch { // where the event is there, all older files are done with
	case c.own != 0 && c.first == 0:
		c.seen, c.sure = place{c.file, c.own}, false
		return false, nil
	case c.own != 0:
		c.seen, c.sure = place{c.file, c.first}, false
	}
	// The next commit will tell. There may be none for hours.
	if c.unclear != at {
		c.unclear, c.since = at, time.Now()
		return false, nil
	}
	if time.Since(c.since) < quietAfter {
		return false, nil
	}
	c.since = time.Now()
	return noneCommitting(ctx, s)
}

// search looks for the checkpoint event that names its own file.
func (c *commitOrder) search(ctx context.Context, s *session) error {
	for limit := 8; ; limit = 500 {
		from := ""
		if c.next != 0 {
			from = fmt.Sprintf(" FROM %d", c.next)
		}
		rows, err := s.query(ctx, fmt.Sprintf("SHOW BINLOG EVENTS IN %s%s LIMIT %d", quote(c.file), from, limit))
		if err != nil {
			return err
		}
		// Name, position, type, server, end, text. The end of a transaction's inner
		// events can be 0, so the last row is read again.
		for _, r := range rows {
			if len(r) < 6 {
				return fmt.Errorf("SHOW BINLOG EVENTS has %d columns", len(r))
			}
			if c.next, err = strconv.ParseUint(r[1], 10, 64); err != nil {
				return err
			}
			switch {
			case r[2] == "Binlog_checkpoint" && r[5] == c.file:
				c.own, err = strconv.ParseUint(r[4], 10, 64)
				return err
			case strings.HasPrefix(r[2], "Gtid") && r[2] != "Gtid_list" && c.first == 0:
				c.first = c.next
			}
		}
		if len(rows) < limit {
			return nil
		}
	}
}

// noneCommitting says whether InnoDB has no transaction between prepare and
// commit, where those are that the binlog has and readers do not see. It needs
// the privilege PROCESS; without it nothing is known.
func noneCommitting(ctx context.Context, s *session) (bool, error) {
	rows, err := s.query(ctx, "SHOW ENGINE INNODB STATUS")
	if serverCode(err) == codeNotGranted {
		return false, nil
	}
	if err != nil || len(rows) == 0 || len(rows[0]) < 3 {
		return false, err
	}
	_, list, ok := strings.Cut(rows[0][2], "LIST OF TRANSACTIONS FOR EACH SESSION:")
	return ok && !strings.Contains(list, "(PREPARED)") && !strings.Contains(list, "COMMITTED") && !strings.Contains(list, "truncated"), nil
}
