package binlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// snapshotView is the binlog position of the newest consistent snapshot of a
// MariaDB server. MariaDB has no function that waits for a GTID to be visible,
// but it takes a snapshot of InnoDB and of the binlog under one lock
// (LOCK_commit_ordered): every transaction that begins before that position is
// visible to each read that starts later, and none behind it. commitOrder knows
// the exceptions.
type snapshotView struct {
	order commitOrder
	tries int // questions in vain since a transaction was last visible
}

// snapshotSQL takes a snapshot and reads its position in one round trip.
const snapshotSQL = "START TRANSACTION WITH CONSISTENT SNAPSHOT; SHOW SESSION STATUS LIKE 'binlog_snapshot_%'; ROLLBACK"

// newSnapshotView prepares the connection. Outside REPEATABLE READ the server
// ignores the words CONSISTENT SNAPSHOT with a warning. With
// binlog_optimize_thread_scheduling=OFF each thread commits in the engine for
// itself, after the position has moved: measured on 11.8.6, 509 of 3,000 reads
// were stale behind such a gate.
func newSnapshotView(ctx context.Context, s *session) (*snapshotView, error) {
	if _, err := s.query(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
		return nil, err
	}
	vars, err := s.variables(ctx, "binlog_optimize_thread_scheduling")
	if err != nil {
		return nil, err
	}
	if vars["binlog_optimize_thread_scheduling"] == "OFF" {
		return nil, errThreadScheduling
	}
	return &snapshotView{}, nil
}

var errThreadScheduling = errors.New("binlog_optimize_thread_scheduling is OFF, so the server cannot say what is visible; remove the setting from my.cnf and restart the server")

func (v *snapshotView) shows(t pipeline.Txn) bool {
	return t.File != "" && v.order.seen.compare(place{t.File, t.Offset}) > 0
}

// ask polls: nothing can be waited for. The pause grows from 0.1 ms to 20 ms,
// so that a stalled commit is not hurried by us.
func (v *snapshotView) ask(ctx context.Context, s *session, t pipeline.Txn) (bool, error) {
	if t.File == "" {
		return false, fmt.Errorf("%w: no binlog coordinates", errNoCoordinates)
	}
	if v.tries > 0 && !pause(ctx, min(100*time.Microsecond<<min(v.tries-1, 10), 20*time.Millisecond)) {
		return false, context.Cause(ctx)
	}
	results, err := s.multi(ctx, snapshotSQL)
	if err != nil {
		return false, err
	}
	at, err := snapshotOf(results)
	if err != nil {
		return false, err
	}
	quiet, err := v.order.advance(ctx, s, at)
	if err != nil {
		return false, err
	}
	if quiet || v.shows(t) {
		v.tries = 0
		return true, nil
	}
	v.tries++
	return false, nil
}

// snapshotOf finds the answer of SHOW SESSION STATUS LIKE 'binlog_snapshot_%'
// as the last of some results.
func snapshotOf(results [][][]string) (at place, err error) {
	for _, r := range results[len(results)-1] {
		switch strings.ToLower(r[0]) {
		case "binlog_snapshot_file":
			at.file = r[1]
		case "binlog_snapshot_position":
			at.pos, err = strconv.ParseUint(r[1], 10, 64)
		}
	}
	if err != nil || at.file == "" {
		return place{}, errors.Join(err, errors.New("binlog_snapshot_file is empty: is the binlog on (log_bin)?"))
	}
	return at, nil
}

// multi runs several statements in one round trip and returns the rows of each
// that returns rows.
func (s *session) multi(ctx context.Context, sql string) (results [][][]string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Conn.Conn.Close() })
	var first error
	_, err = s.conn.ExecuteMultiple(sql, func(res *mysql.Result, err error) {
		if err == nil && res != nil && res.HasResultset() {
			var rows [][]string
			rows, err = rowsOf(res)
			results = append(results, rows)
		}
		if first == nil {
			first = err
		}
	})
	if !stop() && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return results, errors.Join(first, err)
}

// comparePos compares two places in one server's binlog: -1, 0 or 1.
func comparePos(file1 string, pos1 uint64, file2 string, pos2 uint64) int {
	if file1 != file2 {
		if binlogNumber(file1) < binlogNumber(file2) {
			return -1
		}
		return 1
	}
	switch {
	case pos1 < pos2:
		return -1
	case pos1 > pos2:
		return 1
	}
	return 0
}

// binlogNumber is the number at the end of a binlog file's name, which grows
// beyond its six digits.
func binlogNumber(file string) uint64 {
	n, _ := strconv.ParseUint(file[strings.LastIndexByte(file, '.')+1:], 10, 64)
	return n
}

// wentBack says whether the stream jumped back between two transactions: it was
// started again, its server was reset, or it comes from another server.
func wentBack(from, to pipeline.Txn) bool {
	return from.Offset != 0 && to.Offset != 0 && comparePos(to.File, to.Offset, from.File, from.Offset) <= 0
}
