package binlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// mariadbView is what a MariaDB server shows.
//
// What it has applied as a replica is in gtid_slave_pos, which follows the
// commit. What it wrote itself is in gtid_binlog_pos, which comes before the
// commit, so that one is read together with the end of the binlog, and counts
// once a consistent snapshot has passed that end (see snapshotView). While it is a
// replica, only gtid_slave_pos counts in the domains that it replicates: a
// transaction that somebody wrote to the replica itself would otherwise stand for
// all of its source's up to the same number.
type mariadbView struct {
	slave, binlog parsedSet
	all           parsedSet // gtid_binlog_pos as it is
	order         commitOrder
	master        bool   // it has replicated nothing so far
	pending       []mark // written, not yet seen to be visible; in binlog order
	shown         gtid.Set
	begun         bool // shown holds all that was written before the connection was opened
}

// mark says that everything in set ends before a place in the binlog.
type mark struct {
	set gtid.Set
	end place
}

// errHistoryShrank is a RESET MASTER, or a server that became a replica.
var errHistoryShrank = errors.New("the server's binlog has less than before")

// errNothingVisible is a commit that stalls, as for semi-sync, since before the
// connection was opened.
var errNothingVisible = errors.New("it does not say yet whether what was written before is visible: a commit stalls, or none has ended since the newest binlog file was begun; it will be asked again")

// maxMarks bounds the marks that are kept: a stalled server is asked for long.
const maxMarks = 64

// mariadbSQL: the set is read before the end, and the end before the snapshot.
// replicaSQL comes before it.
const (
	mariadbSQL = "SELECT @@GLOBAL.server_id, @@GLOBAL.gtid_binlog_pos, @@GLOBAL.gtid_slave_pos; SHOW MASTER STATUS; " + snapshotSQL
	replicaSQL = "SHOW GLOBAL STATUS LIKE 'slaves_running'; "
)

func newMariadbView(ctx context.Context, s *session) (*mariadbView, error) {
	if _, err := newSnapshotView(ctx, s); err != nil {
		return nil, err
	}
	return &mariadbView{}, nil
}

// ask polls for the first answer: what this connection has not seen to be visible
// yet, an earlier one may have shown, and so it must not be less than all that was
// written when it was opened.
func (v *mariadbView) ask(ctx context.Context, s *session, srv Server) (pipeline.View, error) {
	end := time.Now().Add(gateRead)
	for tries := 0; ; tries++ {
		view, err := v.once(ctx, s, srv)
		switch {
		case err != nil || v.begun:
			return view, err
		case time.Now().After(end):
			return pipeline.View{}, errNothingVisible
		case !pause(ctx, min(time.Millisecond<<min(tries, 10), 20*time.Millisecond)):
			return pipeline.View{}, context.Cause(ctx)
		}
	}
}

func (v *mariadbView) once(ctx context.Context, s *session, srv Server) (pipeline.View, error) {
	sql := mariadbSQL
	if !v.master {
		sql = replicaSQL + mariadbSQL
	}
	results, err := s.multi(ctx, sql)
	if err != nil {
		if serverCode(err) == codeNotGranted {
			err = fmt.Errorf("%w; GRANT BINLOG MONITOR ON *.* to the user", err)
		}
		return pipeline.View{}, err
	}
	replicates := false
	if !v.master && len(results) > 0 && len(results[0]) == 1 {
		replicates, results = results[0][0][1] != "0", results[1:]
	}
	if len(results) != 3 || len(results[0]) != 1 {
		return pipeline.View{}, errors.New("the server gave no answer")
	}
	is := results[0][0]
	if is[0] != strconv.FormatUint(uint64(srv.ServerID), 10) {
		return pipeline.View{}, fmt.Errorf("the server id changed from %d to %s on one connection; give the server's own address, not a proxy's", srv.ServerID, is[0])
	}
	shown, err := v.slave.read(is[2])
	if err != nil {
		return pipeline.View{}, err
	}
	replicates = replicates || v.master && is[2] != "" // it became a replica
	v.master = !replicates && is[2] == ""
	all, err := v.all.read(is[1])
	if err != nil {
		return pipeline.View{}, err
	}
	if !all.HasAll(shown) {
		all.Union(shown)
	}
	if len(results[1]) == 0 {
		v.begun = true
	} else { // it writes a binlog
		if replicates {
			is[1] = otherDomains(is[1], is[2])
		}
		if err := v.written(ctx, s, is[1], results[1][0], results[2:]); err != nil {
			return pipeline.View{}, err
		}
		shown.Union(v.shown)
	}
	return pipeline.View{Server: srv.UUID, Shown: shown, Written: all}, nil
}

// otherDomains returns the GTIDs of a position whose domains are not in that of a
// replica; which they are is not known where that one is empty.
func otherDomains(pos, but string) string {
	if but == "" {
		return ""
	}
	var keep []string
	for one := range strings.SplitSeq(pos, ",") {
		domain, _, _ := strings.Cut(one, "-")
		if !strings.HasPrefix(but, domain+"-") && !strings.Contains(but, ","+domain+"-") {
			keep = append(keep, one)
		}
	}
	return strings.Join(keep, ",")
}

// written takes in the binlog's set and end, and the snapshot taken after.
func (v *mariadbView) written(ctx context.Context, s *session, set string, status []string, snapshot [][][]string) error {
	now, err := v.binlog.read(set)
	if err != nil {
		return err
	}
	end, err := strconv.ParseUint(status[1], 10, 64)
	if err != nil {
		return err
	}
	at, err := snapshotOf(snapshot)
	if err != nil {
		return err
	}
	if !now.HasAll(v.shown) {
		return errHistoryShrank
	}
	if len(v.pending) < maxMarks {
		v.pending = append(v.pending, mark{now, place{status[0], end}})
	}
	quiet, err := v.order.advance(ctx, s, at)
	if err != nil {
		return err
	}
	v.begun = v.begun || now.Empty()
	for len(v.pending) > 0 && (quiet || v.order.seen.compare(v.pending[0].end) >= 0) {
		v.shown, v.begun = v.pending[0].set, true
		v.pending = v.pending[1:]
	}
	return nil
}
