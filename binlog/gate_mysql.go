package binlog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// executedView is a MySQL server's gtid_executed as last read.
type executedView struct {
	text  string   // as the server printed it
	set   gtid.Set // of an older text where stale is true
	stale bool
}

// shows is on the path of every transaction of a tailer that is behind, so it
// does not ask, and parses each answer once at most.
func (v *executedView) shows(t pipeline.Txn) bool {
	if v.stale {
		set, err := gtid.Parse(v.text)
		if err != nil {
			return false // the server is asked
		}
		v.set, v.stale = set, false
	}
	return v.set.Has(t.GTID)
}

// ask waits for the GTID and reads the whole set in one round trip. MySQL 9.7.4
// evaluates the second column after the first, so the set is newer than the
// wait; were it older it would only be smaller, and so still true.
func (v *executedView) ask(ctx context.Context, s *session, t pipeline.Txn) (bool, error) {
	// Nothing else may get into the statement.
	if err := new(gtid.Set).Add(t.GTID); err != nil || !strings.Contains(t.GTID, ":") {
		return false, fmt.Errorf("%w: GTID %q", errNoCoordinates, t.GTID)
	}
	rows, err := s.query(ctx, fmt.Sprintf("SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', %g), @@GLOBAL.gtid_executed",
		t.GTID, askWait.Seconds()))
	if err != nil {
		return false, err
	}
	if len(rows) != 1 || len(rows[0]) != 2 {
		return false, errors.New("gtid_executed: the server gave no answer")
	}
	was, now := v.text, rows[0][1]
	v.text, v.stale = now, v.stale || was != now
	if rows[0][0] == "0" {
		return true, nil
	}
	// Only here, after askWait in vain, is the comparison worth its price.
	if was != now && was != "" {
		before, err1 := gtid.Parse(was)
		after, err2 := gtid.Parse(now)
		if err := errors.Join(err1, err2); err != nil || !after.HasAll(before) {
			return false, errors.Join(err, errOtherHistory)
		}
	}
	return false, nil
}

// errNoCoordinates says that a transaction carries nothing that the gate could
// ask a server about.
var errNoCoordinates = errors.New("the transaction cannot be named to the source")
