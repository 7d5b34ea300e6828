package table_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/table"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestMain(m *testing.M) { envtest.Main(m) }

// flavor is a kind of server that a test runs on.
type flavor struct {
	name  string
	start func(testing.TB, ...testenv.MySQLOptions) *testenv.Server
}

var flavors = []flavor{{"mysql", envtest.MySQL}, {"mariadb", envtest.MariaDB}}

// rig is a database of a test's own, and what a walk needs of its server.
type rig struct {
	t      testing.TB
	flavor string
	server *testenv.Server
	db     string
	conn   *client.Conn // for the test's own statements, in UTC and with an empty sql_mode
	cfg    binlog.Config
	deps   table.Deps

	mu         sync.Mutex
	statements []string // that walks sent
	broken     int      // sessions that are still to break with their next chunk
	onChunk    func()   // called with each chunk, if set
}

// newRig takes rules with %s for the database, in the flow style of YAML.
func newRig(t testing.TB, f flavor, rules ...string) *rig {
	t.Helper()
	r := &rig{t: t, flavor: f.name, server: f.start(t)}
	r.db = envtest.Database(t, r.server)
	r.cfg = binlog.Config{Name: "shop", Addr: r.server.Addr, User: "root", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	r.rules(rules...)
	reader := binlog.NewReader(r.cfg, "source", "")
	t.Cleanup(reader.Close)
	r.deps.Source, r.deps.Connect = "shop", r.connect
	r.deps.View = reader.Ask
	r.deps.Hooks = &pipeline.Hooks{Retry: func(op string, n int, err error, _ time.Duration) { t.Logf("%s, attempt %d: %v", op, n, err) }}
	r.conn = r.open()
	r.exec("USE " + r.db)
	return r
}

func (r *rig) rules(rules ...string) {
	r.t.Helper()
	src := "version: 1\nkeys:\n"
	for _, one := range rules {
		src += "  - " + strings.ReplaceAll(one, "%s", r.db) + "\n"
	}
	s, err := keys.Parse("keys.yaml", []byte(src))
	if err != nil {
		r.t.Fatal(err)
	}
	r.deps.Schema, r.cfg.Schema = s, s
}

func (r *rig) open() *client.Conn {
	r.t.Helper()
	c, err := binlog.Connect(r.t.Context(), r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Execute("SET time_zone = '+00:00'"); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) exec(statements ...string) {
	r.t.Helper()
	for _, sql := range statements {
		if _, err := r.conn.Execute(sql); err != nil {
			r.t.Fatalf("%.300s: %v", sql, err)
		}
	}
}

// texts returns a result as text, NULL as "NULL".
func (r *rig) texts(sql string) (rows [][]string) {
	r.t.Helper()
	res, err := r.conn.Execute(sql)
	if err != nil {
		r.t.Fatalf("%.300s: %v", sql, err)
	}
	for i := range res.RowNumber() {
		row := make([]string, res.ColumnNumber())
		for j := range row {
			v, err := res.GetString(i, j)
			if err != nil {
				r.t.Fatal(err)
			}
			if row[j] = strings.Clone(v); res.Values[i][j].Value() == nil {
				row[j] = "NULL"
			}
		}
		rows = append(rows, row)
	}
	return rows
}

var errBroken = errors.New("the test breaks the session")

// connect opens sessions that are listened to, and broken where a test says so.
func (r *rig) connect(ctx context.Context) (table.Conn, error) {
	c, err := table.SQL(func(ctx context.Context) (*client.Conn, error) { return binlog.Connect(ctx, r.cfg) })(ctx)
	return &listening{Conn: c, r: r}, err
}

type listening struct {
	table.Conn
	r *rig
}

func (l *listening) Query(ctx context.Context, sql string, row func([][]byte) error) error {
	chunk := strings.Contains(sql, "FORCE INDEX") && !strings.HasSuffix(sql, "LIMIT 1") && !strings.HasSuffix(sql, "LIMIT 0")
	l.r.mu.Lock()
	if chunk {
		l.r.statements = append(l.r.statements, sql)
	}
	breaks := chunk && l.r.broken > 0
	if breaks {
		l.r.broken--
	}
	l.r.mu.Unlock()
	if breaks {
		_ = l.Close()
		n := 0
		return l.Conn.Query(ctx, sql, func([][]byte) error { n++; return errBroken })
	}
	return l.Conn.Query(ctx, sql, row)
}

// seen is what a source brought.
type seen struct {
	plan   replay.Plan
	chunks []replay.Chunk
	rows   []pipeline.Row
	scopes []pipeline.Scope
	keys   []string // as the rules make them of the rows, and of events that name keys
	doubts int
}

func (r *rig) walk(spec table.Spec) *seen {
	r.t.Helper()
	if spec.DB == "" {
		spec.DB = r.db
	}
	src, err := table.Open(r.deps, spec)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.replay(src)
}

func (r *rig) replay(src replay.Source) *seen {
	r.t.Helper()
	plan, err := src.Plan(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	s := &seen{plan: plan}
	err = src.Read(r.t.Context(), "", func(_ context.Context, c replay.Chunk) error {
		if r.onChunk != nil {
			r.onChunk()
		}
		s.take(r.t, r.deps.Schema, c)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (s *seen) take(t testing.TB, schema *keys.Schema, c replay.Chunk) {
	s.chunks = append(s.chunks, c)
	for _, e := range c.Events {
		if _, err := pipeline.AppendRecords(nil, e); err != nil {
			t.Errorf("an event cannot be written: %v", err)
		}
		s.keys = append(s.keys, e.Keys...)
		s.scopes = append(s.scopes, e.Scopes...)
		for _, tr := range e.Tables {
			s.rows = append(s.rows, tr.Rows...)
			made, doubts := keysOf(schema, tr)
			s.keys, s.doubts = append(s.keys, made...), s.doubts+doubts
		}
	}
}
