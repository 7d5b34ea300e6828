package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// oneRow is a Source of one row.
type oneRow struct {
	replay.Source
	event pipeline.Event
}

func (s oneRow) Read(ctx context.Context, _ replay.Cursor, fn func(context.Context, replay.Chunk) error) error {
	return fn(ctx, replay.Chunk{Events: []pipeline.Event{s.event}, Rows: 1, Next: "end", Done: 1})
}

// TestReplayWaitsForAReader: a replay that was stopped while a reader is out, and
// resumed, ends only after the second deletes that are owed to that reader.
func TestReplayWaitsForAReader(t *testing.T) {
	source, server := envtest.MySQL(t, testenv.MySQLOptions{}), envtest.Redis(t)
	replica := envtest.MySQL(t, testenv.MySQLOptions{ReplicaOf: source})
	db, behind := envtest.DB(t, source), envtest.DB(t, replica)
	envtest.Exec(t, db, "CREATE DATABASE shop", "CREATE TABLE shop.item (id INT PRIMARY KEY)")
	envtest.Exec(t, behind, "STOP REPLICA SQL_THREAD")
	envtest.Exec(t, db, "INSERT INTO shop.item VALUES (1)")
	written := strings.ReplaceAll(one(t, db, "SELECT @@global.gtid_executed"), "\n", "")
	config := write(t, map[string]string{
		"keys.yaml": "version: 1\nkeys:\n  - {name: item, table: shop.item, key: 'owed:{id}'}\n",
		"doubletap.yaml": fmt.Sprintf(`
source: {name: shop, addr: "%s", user: root}
log: {embedded: {dir: data}}
redis: {addrs: ["%s"]}
keys: keys.yaml
second_delete: {fill: 1s, max_wait: 1500ms, readers: ["%s"]}
`, source.Addr, server.Addr, replica.Addr),
	})
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()

	dir := t.TempDir()
	state, err := replay.CreateState(dir, replay.Job{Kind: kindTable, Fixed: json.RawMessage(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	event := pipeline.Event{
		Version: pipeline.Version, Kind: pipeline.KindChanges, Source: "shop", GTID: written,
		Tables: []pipeline.TableRows{{DB: "shop", Table: "item", Columns: []string{"id"}, Rows: []pipeline.Row{
			{After: []keys.Value{{Kind: keys.Number, Text: "1"}}},
		}}},
	}
	// process is one process's work, with ready called when all is done but what is
	// owed to the reader.
	process := func(ctx context.Context, ready func()) (replay.Summary, error) {
		app, err := newApp(options{config: config}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		app = app.replaying()
		var out atomic.Bool
		app.Hooks = pipeline.Join(app.Hooks, pipeline.Hooks{
			ReaderOut: func(i pipeline.ReaderOutInfo) { out.Store(i.Out) },
			Stored: func(_ string, c pipeline.Cursors) {
				if out.Load() && c.First > 0 && c.Second == c.First {
					ready()
				}
			},
		})
		redis, err := app.openRedis()
		if err != nil {
			t.Fatal(err)
		}
		defer redis.Close()
		r := &replaying{app: app, redis: redis, args: newReplayArgs(verbTable), stdout: io.Discard, stderr: io.Discard, state: state}
		return r.doRedis(ctx, &replay.Run{Source: oneRow{event: event}, State: state, Schema: app.Schema})
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if s, err := process(ctx, stop); !errors.Is(err, replay.ErrStopped) || s.Phase != replay.Draining {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := client.Set(t.Context(), "owed:1", "an old value, of the replica", 0).Err(); err != nil {
		t.Fatal(err)
	}
	var back atomic.Bool
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	starting := time.AfterFunc(2*time.Second, func() { // the resumed one would have ended by then
		back.Store(true)
		if _, err := behind.ExecContext(ctx, "START REPLICA SQL_THREAD"); err != nil {
			t.Error(err)
		}
	})
	defer starting.Stop()
	if s, err := process(ctx, func() {}); err != nil || s.Phase != replay.Done || !back.Load() {
		t.Errorf("%+v, %v, the reader was back: %t", s, err, back.Load())
	}
	if value, err := client.Get(t.Context(), "owed:1").Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("the replay is done, and Redis has %q, %v", value, err)
	}
	if _, err := os.Stat(filepath.Join(dir, spoolDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the spool is there still: %v", err)
	}
}
