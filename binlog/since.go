package binlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// sinceSlack is how far a server's clock may have been set back between the
// beginning of a binlog file and a commit in it.
const sinceSlack = time.Minute

// Since returns a position of a server from which nothing is left out that was
// committed at or after t by the server's clock, and when the binlog file that
// begins there was begun. That is later than t where older files were purged, or
// never were. It reads the beginnings of some binlog files as a replica does, so
// cfg.ServerID must have been resolved and be free.
func Since(ctx context.Context, cfg Config, srv Server, t time.Time) (pipeline.Position, time.Time, error) {
	fail := func(err error) (pipeline.Position, time.Time, error) {
		return "", time.Time{}, fmt.Errorf("find the binlog file of %s at %s: %w", cfg.Addr, t.UTC().Format(time.RFC3339), err)
	}
	s, err := openSession(ctx, cfg, readTimeout)
	if err != nil {
		return fail(err)
	}
	defer s.close()
	logs, err := s.query(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return fail(err)
	}
	if len(logs) == 0 {
		return fail(errors.New("the server lists no binlog: turn log_bin on"))
	}
	begun := make(map[int]time.Time)
	at, err := begunBefore(len(logs), t, func(i int) (_ time.Time, err error) {
		if _, ok := begun[i]; !ok {
			begun[i], err = fileBegun(ctx, cfg, srv, logs[i][0])
		}
		return begun[i], err
	})
	if err != nil {
		return fail(err)
	}
	pos, err := fileStart(ctx, s, srv, logs[at][0])
	if err != nil {
		return fail(err)
	}
	return pos, begun[at], nil
}

// begunBefore returns the newest of n files before which nothing was committed at
// or after t, or 0. A file that was begun earlier than the one before it, or later
// than the one behind it, was begun under a clock that was wrong (a server that
// boots before it has the time): files are looked at from the newest on, without
// leaving one out, and such a file is not taken for the one.
func begunBefore(n int, t time.Time, begun func(int) (time.Time, error)) (int, error) {
	limit := t.Add(-sinceSlack)
	// What is older than all there is costs one question.
	if first, err := begun(0); err != nil || first.After(limit) {
		return 0, err
	}
	for i := n - 1; i > 0; i-- {
		at, err := begun(i)
		if err != nil {
			return 0, err
		}
		if at.After(limit) {
			continue
		}
		before, err := begun(i - 1)
		if err != nil {
			return 0, err
		}
		if !before.After(at.Add(sinceSlack)) {
			return i, nil
		}
	}
	return 0, nil
}

// fileStart returns the position at the beginning of a binlog file: what the
// files before it hold, and what was purged.
func fileStart(ctx context.Context, s *session, srv Server, file string) (pipeline.Position, error) {
	now, err := readState(ctx, s, srv.Flavor)
	if err != nil {
		return "", err
	}
	pos := position{Flavor: srv.Flavor, Server: now.server}
	if srv.MariaDB() {
		pos.Set, err = s.value(ctx, "SELECT BINLOG_GTID_POS("+quote(file)+", 4)")
		return pos.encode(), err
	}
	// The second event; a server that encrypts its binlogs shows it as well.
	rows, err := s.query(ctx, "SHOW BINLOG EVENTS IN "+quote(file)+" LIMIT 5")
	if err != nil {
		return "", err
	}
	for _, r := range rows {
		if len(r) < 6 || r[2] != "Previous_gtids" {
			continue
		}
		set, err := parseSet(srv.Flavor, r[5])
		if err != nil {
			return "", err
		}
		pos.Set = set.String()
		return pos.encode(), nil
	}
	return "", fmt.Errorf("%s does not say which GTIDs came before it: it was written with gtid_mode=OFF", file)
}

// fileBegun returns the time at which a binlog file was begun.
func fileBegun(ctx context.Context, cfg Config, srv Server, file string) (time.Time, error) {
	r := &replicationSource{history: history{cfg: cfg, srv: srv}}
	conn := &hangUp{}
	defer context.AfterFunc(ctx, conn.close)()
	defer conn.close()
	var head fileHead
	sc := r.syncerConfig(ctx, conn, nil)
	sc.SynchronousEventHandler = &head
	streamer, err := replication.NewBinlogSyncer(sc).StartSync(mysql.Position{Name: file, Pos: 4})
	if err != nil {
		return time.Time{}, err
	}
	// As in replicationSource.stream, only the error at the end arrives here.
	_, err = streamer.GetEvent(context.Background())
	if head.at.IsZero() {
		return time.Time{}, fmt.Errorf("read the beginning of %s: %w", file, errors.Join(ctx.Err(), err))
	}
	return head.at, nil
}

// fileHead takes the time of a binlog file's first event, and ends the stream.
type fileHead struct{ at time.Time }

var errHeadRead = errors.New("the beginning has been read")

// HandleEvent implements replication.EventHandler.
func (f *fileHead) HandleEvent(e *replication.BinlogEvent) error {
	if e.Header.EventType != replication.FORMAT_DESCRIPTION_EVENT {
		return nil
	}
	f.at = time.Unix(int64(e.Header.Timestamp), 0).UTC()
	return errHeadRead
}
