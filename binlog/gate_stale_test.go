package binlog

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// rootConfig is the source configuration for a test server.
func rootConfig(s *testenv.Server) Config {
	return Config{Name: "test", Addr: s.Addr, User: "root"}
}

func mustConnect(t testing.TB, cfg Config) *client.Conn {
	t.Helper()
	c, err := Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func mustExec(t testing.TB, c *client.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := c.Execute(sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// probe changes one row again and again, sees each change in the binlog, and
// reads the row back at that moment: a reader that is as quick as can be.
type probe struct {
	cfg     Config
	db      string
	gate    pipeline.Gate // nil: read as soon as the event is there
	writers int           // that commit to other rows meanwhile
	checks  int
	before  func()  // called before the first change
	source  *Config // where to write, when cfg is a replica of it; nil: cfg
	stream  *Config // whose binlog is read; nil: cfg
}

type probeResult struct {
	stale     int
	worst     time.Duration // longest time until a stale row was fresh
	held      time.Duration // longest time at the gate
	heldTotal time.Duration
}

func (p probe) run(t testing.TB) (r probeResult) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	source := p.cfg
	if p.source != nil {
		source = *p.source
	}
	mustExec(t, mustConnect(t, source),
		"CREATE TABLE IF NOT EXISTS "+p.db+".probe (id INT PRIMARY KEY, v INT NOT NULL) ENGINE=InnoDB",
		"REPLACE INTO "+p.db+".probe VALUES (0, 0)")
	followed := p.cfg
	if p.stream != nil {
		followed = *p.stream
	}
	stream := follow(t, ctx, followed)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	// On a replica the writers keep pace with the checks, or it would lag more and more.
	pace := make(chan struct{}, p.writers)
	if p.source == nil {
		close(pace)
	}
	for w := range p.writers {
		conn := mustConnect(t, source)
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				select {
				case <-pace:
				case <-ctx.Done():
				}
				_, _ = conn.Execute(fmt.Sprintf("REPLACE INTO %s.probe VALUES (%d, %d)", p.db, w+1, i))
			}
		})
	}
	writer, reader := mustConnect(t, source), mustConnect(t, p.cfg)
	turn := make(chan int)
	defer close(turn)
	wg.Go(func() {
		for v := range turn {
			for i := 0; p.source != nil && i < p.writers; i++ {
				select {
				case pace <- struct{}{}:
				default:
				}
			}
			_, _ = writer.Execute(fmt.Sprintf("UPDATE %s.probe SET v = %d WHERE id = 0", p.db, v))
		}
	})
	if p.before != nil {
		p.before()
	}
	for v := 1; v <= p.checks; v++ {
		turn <- v
		txn := stream.until(t, ctx, v)
		if p.gate != nil {
			start := time.Now()
			if err := p.gate.Wait(ctx, txn); err != nil {
				t.Fatal(err)
			}
			held := time.Since(start)
			r.held, r.heldTotal = max(r.held, held), r.heldTotal+held
		}
		start := time.Now()
		for first := true; ; first = false {
			res, err := reader.Execute("SELECT v FROM " + p.db + ".probe WHERE id = 0")
			if err != nil {
				t.Fatal(err)
			}
			if n, _ := res.GetInt(0, 0); n == int64(v) {
				break
			}
			if first {
				r.stale++
			}
		}
		if d := time.Since(start); r.stale > 0 {
			r.worst = max(r.worst, d)
		}
	}
	return r
}

// binlogStream is a bare binlog reader.
type binlogStream struct {
	s   *replication.BinlogStreamer
	txn pipeline.Txn
	at  mysql.Position
}

var testServerIDs atomic.Uint32

func follow(t testing.TB, ctx context.Context, cfg Config) *binlogStream {
	t.Helper()
	srv, err := Detect(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	show := "SHOW BINARY LOG STATUS"
	if srv.MariaDB() {
		show = "SHOW MASTER STATUS"
	}
	res, err := mustConnect(t, cfg).Execute(show)
	if err != nil {
		t.Fatal(err)
	}
	file, _ := res.GetString(0, 0)
	pos, _ := res.GetUint(0, 1)
	host, port := splitAddr(t, cfg.Addr)
	syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: 3_900_000_000 + testServerIDs.Add(1), Flavor: srv.Flavor, Host: host, Port: port,
		User: cfg.User, Password: cfg.Password, DisableRetrySync: true, Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(syncer.Close)
	at := mysql.Position{Name: file, Pos: uint32(pos)}
	s, err := syncer.StartSync(at)
	if err != nil {
		t.Fatal(err)
	}
	return &binlogStream{s: s, at: at}
}

// until reads up to the row event that sets row 0 to v, and returns its transaction.
func (b *binlogStream) until(t testing.TB, ctx context.Context, v int) pipeline.Txn {
	t.Helper()
	for {
		e, err := b.s.GetEvent(ctx)
		if err != nil {
			t.Fatal(err)
		}
		start := uint64(e.Header.LogPos) - uint64(e.Header.EventSize)
		switch ev := e.Event.(type) {
		case *replication.RotateEvent:
			b.at.Name = string(ev.NextLogName)
		case *replication.GTIDEvent:
			next, _ := ev.GTIDNext()
			b.txn = pipeline.Txn{GTID: next.String(), File: b.at.Name, Offset: start}
		case *replication.GtidTaggedLogEvent:
			next, _ := ev.GTIDNext()
			b.txn = pipeline.Txn{GTID: next.String(), File: b.at.Name, Offset: start}
		case *replication.MariadbGTIDEvent:
			b.txn = pipeline.Txn{GTID: ev.GTID.String(), File: b.at.Name, Offset: start}
		case *replication.RowsEvent:
			row := ev.Rows[len(ev.Rows)-1]
			if len(row) == 2 && row[0] == int32(0) && row[1] == int32(v) {
				return b.txn
			}
		}
	}
}

func splitAddr(t testing.TB, addr string) (string, uint16) {
	t.Helper()
	var host string
	var port int
	for i := len(addr) - 1; i >= 0; i-- {
		if addr[i] == ':' {
			host = addr[:i]
			port, _ = strconv.Atoi(addr[i+1:])
			break
		}
	}
	return host, uint16(port)
}

func TestMain(m *testing.M) { envtest.Main(m) }

// cascadeIsLogged deletes the parent row and says whether the child's delete is
// in the binlog.
func cascadeIsLogged(t testing.TB, cfg Config, db string) bool {
	t.Helper()
	stream, c := follow(t, t.Context(), cfg), mustConnect(t, cfg)
	mustExec(t, c, "DELETE FROM "+db+".parent", "INSERT INTO "+db+".parent VALUES (2)")
	for child := false; ; {
		e, err := stream.s.GetEvent(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rows, ok := e.Event.(*replication.RowsEvent)
		switch {
		case !ok:
		case string(rows.Table.Table) == "child":
			child = true
		case rows.Rows[0][0] == int32(2):
			return child
		}
	}
}
