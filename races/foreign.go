package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/redis/go-redis/v9"
)

// textbookDelay is how long the textbook waits before it deletes again.
const textbookDelay = time.Second

// foreign invalidates as is usual today: it follows the binlog, deletes when an
// event arrives, and, for the textbook, once more from a timer in memory.
type foreign struct {
	redis *redis.Client
	// deleted is, by cache name and id, the newest version for which the last
	// delete was acknowledged.
	deleted map[string][]atomic.Uint32

	cancel  context.CancelFunc
	running sync.WaitGroup
	failed  atomic.Pointer[error]
}

// startForeign follows the server from now on.
func startForeign(w *world, executed string) (*foreign, error) {
	host, port, err := net.SplitHostPort(w.source.Addr)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	set, err := mysql.ParseMysqlGTIDSet(executed)
	if err != nil {
		return nil, err
	}
	f := &foreign{redis: w.redis, deleted: map[string][]atomic.Uint32{
		one: make([]atomic.Uint32, w.keys), textbook: make([]atomic.Uint32, w.keys),
	}}
	syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: uint32(os.Getpid()) + 1<<25, Flavor: mysql.MySQLFlavor, Host: host, Port: uint16(number), User: "root",
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	stream, err := syncer.StartSyncGTID(set)
	if err != nil {
		return nil, fmt.Errorf("follow the binlog: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = func() {
		cancel()
		syncer.Close()
	}
	f.running.Go(func() {
		for {
			e, err := stream.GetEvent(ctx)
			if err != nil {
				f.note(ctx, fmt.Errorf("read the binlog: %w", err))
				return
			}
			if rows, ok := e.Event.(*replication.RowsEvent); ok && string(rows.Table.Table) == "item" {
				f.event(ctx, changed(rows))
			}
		}
	})
	return f, nil
}

// changed returns the versions that a rows event leaves.
func changed(e *replication.RowsEvent) map[int]uint32 {
	versions := map[int]uint32{}
	step := 1
	if e.Type() == replication.EnumRowsEventTypeUpdate {
		step = 2 // before and after
	}
	for i := step - 1; i < len(e.Rows); i += step {
		id, _ := e.Rows[i][0].(int32)
		version, _ := e.Rows[i][1].(int32)
		versions[int(id)] = uint32(version)
	}
	return versions
}

// event deletes beside the stream: a slow Redis holds up no later event.
func (f *foreign) event(ctx context.Context, versions map[int]uint32) {
	f.running.Go(func() { f.note(ctx, f.delete(ctx, one, versions, true)) })
	f.running.Go(func() { f.note(ctx, f.delete(ctx, textbook, versions, false)) })
	f.running.Go(func() {
		if pause(ctx, textbookDelay) == nil {
			f.note(ctx, f.delete(ctx, textbook, versions, true))
		}
	})
}

func (f *foreign) delete(ctx context.Context, cache string, versions map[int]uint32, last bool) error {
	pipe := f.redis.Pipeline()
	for id := range versions {
		pipe.Del(ctx, key(cache, id))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("delete keys: %w", err)
	}
	for id, v := range versions {
		for d := &f.deleted[cache][id]; last; {
			old := d.Load()
			if old >= v || d.CompareAndSwap(old, v) {
				break
			}
		}
	}
	return nil
}

// quiet waits until the last delete for every version was acknowledged.
func (f *foreign) quiet(ctx context.Context, cache string, d done) error {
	for id, v := range d.versions {
		for f.deleted[cache][id].Load() < v {
			if err := f.failed.Load(); err != nil {
				return *err
			}
			if err := pause(ctx, 5*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *foreign) note(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		f.failed.CompareAndSwap(nil, &err)
	}
}

func (f *foreign) stop() {
	f.cancel()
	f.running.Wait()
}
