package binlog

import (
	"context"
	"errors"
	"fmt"
	"sort"
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
	var failed error
	// Files are begun in their order. The first one that began behind t ends the
	// search; the one before it is the one.
	behind := sort.Search(len(logs), func(i int) bool {
		if failed != nil {
			return false
		}
		begun[i], failed = fileBegun(ctx, cfg, srv, logs[i][0])
		return begun[i].After(t.Add(-sinceSlack))
	})
	if failed != nil {
		return fail(failed)
	}
	at := max(behind-1, 0)
	pos, err := fileStart(ctx, s, srv, logs[at][0])
	if err != nil {
		return fail(err)
	}
	return pos, begun[at], nil
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
