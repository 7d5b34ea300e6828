package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// binlogLab is a server with a database shop, and how to replay its binlog.
type binlogLab struct {
	testing.TB
	server *testenv.Server
	maria  bool
	db     *sql.DB
	cfg    binlog.Config
	srv    binlog.Server
	schema *keys.Schema
}

var labServerID atomic.Uint32

// onServers runs a test on a fresh MySQL and a fresh MariaDB.
func onServers(t *testing.T, driver string, fn func(*testing.T, *binlogLab)) {
	for _, f := range []struct {
		name  string
		start func(testing.TB, ...testenv.MySQLOptions) *testenv.Server
	}{{"mysql", envtest.MySQL}, {"mariadb", envtest.MariaDB}} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel() // most of the time nothing but a server is waited for
			o := testenv.MySQLOptions{Fast: true}
			if driver == binlog.DriverCanal {
				o.Args = []string{"--binlog-row-metadata=MINIMAL"}
			}
			l := &binlogLab{TB: t, server: f.start(t, o), maria: f.name == "mariadb"}
			l.db = envtest.DB(t, l.server)
			l.db.SetMaxOpenConns(1) // XA and SET SESSION are of one session
			var err error
			if l.schema, err = keys.Parse("test.yaml", []byte("version: 1\nkeys:\n  - name: item\n    table: shop.item\n    key: \"item:{id}:{sku}\"\n")); err != nil {
				t.Fatal(err)
			}
			l.cfg = binlog.Config{
				Name: "shop", Addr: l.server.Addr, User: "root", ServerID: 3_100_000_000 + labServerID.Add(1), Driver: driver, Schema: l.schema,
				Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
			}
			if l.srv, err = binlog.Detect(t.Context(), l.cfg); err != nil {
				t.Fatal(err)
			}
			fn(t, l)
		})
	}
}

// sub runs a test in a fresh database on the same server.
func (l *binlogLab) sub(t *testing.T, name string, fn func(*binlogLab)) {
	t.Run(name, func(t *testing.T) {
		own := *l
		own.TB = t
		own.exec("CREATE DATABASE shop", "USE shop",
			"CREATE TABLE item (id INT PRIMARY KEY, pad VARCHAR(500), sku VARCHAR(20))", "CREATE TABLE other (id INT PRIMARY KEY)")
		fn(&own)
		if own.server.Pid() != 0 {
			own.exec("DROP DATABASE shop")
		}
	})
}

// other runs statements in a session of their own.
func (l *binlogLab) other(statements ...string) {
	l.Helper()
	own := *l
	own.db = envtest.DB(l, l.server)
	own.db.SetMaxOpenConns(1)
	own.exec(append([]string{"USE shop"}, statements...)...)
	_ = own.db.Close()
}

// executed is the GTID set that the server has executed.
func (l *binlogLab) executed() string {
	l.Helper()
	name := "gtid_executed"
	if l.maria {
		name = "gtid_binlog_pos"
	}
	var set string
	if err := l.db.QueryRowContext(l.Context(), "SELECT @@global."+name).Scan(&set); err != nil {
		l.Fatal(err)
	}
	return parsed(set).String()
}

// insert makes rows in transactions of their own, and says what comes of them.
func (l *binlogLab) insert(ids ...int) (want []string) {
	l.Helper()
	for _, id := range ids {
		l.exec(fmt.Sprintf("INSERT INTO item VALUES (%d, '', 's')", id))
		want = append(want, fmt.Sprintf("+%d", id))
	}
	return want
}

// deps are what a replay from the server stands on.
func (l *binlogLab) deps() BinlogDeps {
	l.Helper()
	source, err := binlog.NewSource(l.cfg, l.srv)
	if err != nil {
		l.Fatal(err)
	}
	return BinlogDeps{
		Source: source, Name: "shop", Schema: l.schema.Hash(), Patience: time.Minute, Logger: l.cfg.Logger,
		Since: func(ctx context.Context, t time.Time) (pipeline.Position, time.Time, error) {
			return binlog.Since(ctx, l.cfg, l.srv, t)
		},
	}
}

// planned is a replay that was planned.
type planned struct {
	replay.Plan
	testing.TB
	deps   func() BinlogDeps
	source replay.Source
}

func (l *binlogLab) plan(deps func() BinlogDeps, spec BinlogSpec) planned {
	l.Helper()
	s, err := OpenBinlog(deps(), spec)
	if err != nil {
		l.Fatal(err)
	}
	p, err := s.Plan(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	return planned{p, l.TB, deps, s}
}

// read reads all chunks.
func (p planned) read() []replay.Chunk {
	p.Helper()
	return p.from(p.source, "")
}

func (p planned) from(s replay.Source, at replay.Cursor) (chunks []replay.Chunk) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 90*time.Second)
	defer cancel()
	err := s.Read(ctx, at, func(_ context.Context, c replay.Chunk) error {
		chunks = append(chunks, c)
		return nil
	})
	if err != nil {
		p.Fatal(err)
	}
	return chunks
}

// reopen opens the replay again from what the plan fixed, as after a crash.
func (p planned) reopen() replay.Source {
	p.Helper()
	var spec BinlogSpec
	if err := json.Unmarshal(p.Fixed, &spec); err != nil {
		p.Fatal(err)
	}
	s, err := OpenBinlog(p.deps(), spec)
	if err != nil {
		p.Fatal(err)
	}
	return s
}

// said is what the events of chunks say: +id for an insert, -id for a delete,
// id>id for an update, !db.table for an invalidation.
func said(chunks ...replay.Chunk) (out []string) {
	for _, c := range chunks {
		for _, e := range c.Events {
			for _, t := range e.Tables {
				for _, r := range t.Rows {
					switch {
					case r.Before == nil:
						out = append(out, "+"+r.After[0].Text)
					case r.After == nil:
						out = append(out, "-"+r.Before[0].Text)
					default:
						out = append(out, r.Before[0].Text+">"+r.After[0].Text)
					}
				}
			}
			for _, s := range e.Scopes {
				out = append(out, "!"+s.DB+"."+s.Table)
			}
		}
	}
	return out
}

func (l *binlogLab) expect(chunks []replay.Chunk, want ...string) {
	l.Helper()
	if got := said(chunks...); !slices.Equal(got, want) {
		l.Errorf("replayed %d:\n  %s\nwant:\n  %s", len(got), strings.Join(got[:min(len(got), 30)], " "), strings.Join(want, " "))
	}
}
