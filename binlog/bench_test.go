package binlog

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// benchEvent is an UPDATE_ROWS event of a table like a shop's: 100 rows of 12
// columns, about 250 bytes each with both images, of which a rule wants two.
func benchEvent() (tableMap, rows []byte) {
	types := []byte{8, 3, 15, 15, 246, 1, 18, 18, 17, 252, 2, 3}
	meta := []byte{200, 0, 144, 1, 10, 2, 0, 6, 0, 2}
	names := []string{"id", "category", "sku", "title", "price", "status", "created", "updated", "seen", "descr", "stock", "version"}
	b := []byte{1, 0, 0, 0, 0, 0, 1, 0, 4}
	b = append(append(b, "shop"...), 0, 4)
	b = append(append(b, "item"...), 0, byte(len(types)))
	b = append(b, types...)
	b = append(append(b, byte(len(meta))), meta...)
	b = append(b, 0xff, 0x0f)
	b = append(b, 1, 1, 0, 2, 3, 0xfc, 255, 0)
	var list []byte
	for _, n := range names {
		list = append(append(list, byte(len(n))), n...)
	}
	b = append(append(b, 4, byte(len(list))), list...)

	row := []byte{0, 0, 1, 2, 3, 4, 5, 6, 7, 0, 9, 0, 0, 0}
	row = append(append(row, 10), "sku-123456"...)
	row = append(append(row, 30, 0), strings.Repeat("t", 30)...)
	row = append(row, 0x80, 0, 0, 9, 50, 1)
	row = append(row, 0x99, 0x9f, 0x3b, 0xca, 0x8a, 0x99, 0x9f, 0x3b, 0xca, 0x8a, 0, 0, 1, 0x65, 0, 0, 0)
	row = append(append(row, 40, 0), strings.Repeat("d", 40)...)
	row = append(row, 7, 0, 1, 0, 0, 0)
	r := []byte{1, 0, 0, 0, 0, 0, 1, 0, 2, 0, byte(len(types)), 0xff, 0x0f, 0xff, 0x0f}
	for range 100 {
		r = append(append(r, row...), row...)
	}
	return b, r
}

// BenchmarkDecode is this package's decoder: rows/s of one core.
func BenchmarkDecode(b *testing.B) {
	tm, rows := benchEvent()
	schema := parseSchema(b, rule("item", "shop.item", "id", "category"))
	n := 0
	d := newDecoder(context.Background(), Config{Schema: schema}, Server{Flavor: "mysql"},
		func(_ context.Context, x pipeline.Batch) error {
			for _, t := range x.Tables {
				n += len(t.Rows)
			}
			return nil
		})
	b.ReportAllocs()
	for b.Loop() {
		for _, e := range []struct {
			typ  replication.EventType
			body []byte
		}{{replication.MARIADB_GTID_EVENT, make([]byte, 13)}, {replication.TABLE_MAP_EVENT, tm}, {replication.UPDATE_ROWS_EVENTv2, rows}, {replication.XID_EVENT, make([]byte, 8)}} {
			if err := d.event(&replication.EventHeader{EventType: e.typ}, e.body, 4); err != nil {
				b.Fatal(err)
			}
		}
	}
	if n != 100*b.N {
		b.Fatalf("%d rows of %d", n, 100*b.N)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkDecodeLibrary is go-mysql's decoder over the same event.
func BenchmarkDecodeLibrary(b *testing.B) {
	tm, rows := benchEvent()
	event := func(typ replication.EventType, body []byte) []byte {
		head := make([]byte, replication.EventHeaderSize)
		head[4] = byte(typ)
		size := len(head) + len(body)
		head[9], head[10], head[11] = byte(size), byte(size>>8), byte(size>>16)
		return append(head, body...)
	}
	format := make([]byte, 57+50)
	format[0] = 4
	copy(format[2:], "8.0.36")
	format[56] = 19
	for i := 57; i < len(format); i++ {
		format[i] = 8
	}
	format[len(format)-5] = 0
	p := replication.NewBinlogParser()
	p.SetFlavor(mysql.MySQLFlavor)
	if _, err := p.Parse(event(replication.FORMAT_DESCRIPTION_EVENT, format)); err != nil {
		b.Fatal(err)
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Parse(event(replication.TABLE_MAP_EVENT, tm)); err != nil {
			b.Fatal(err)
		}
		e, err := p.Parse(event(replication.UPDATE_ROWS_EVENTv2, rows))
		if err != nil {
			b.Fatal(err)
		}
		n += len(e.Event.(*replication.RowsEvent).Rows) / 2
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkStream reads a real server's binlog of 500,000 rows: the source, and
// a plain go-mysql reader that decodes everything, beside it.
func BenchmarkStream(b *testing.B) {
	s := flavors[0].start(b)
	db := envDatabase(b, s)
	c := mustConnect(b, rootConfig(s))
	mustExec(b, c, "USE "+db, "CREATE TABLE d (i INT)", "INSERT INTO d VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
		"CREATE TABLE item (id INT PRIMARY KEY, category INT, sku VARCHAR(50), title VARCHAR(100), price DECIMAL(10,2), status TINYINT, created DATETIME, updated DATETIME(6), descr TEXT)")
	w := newTail(b, tailConfig(b, s, DriverReplication, rule("item", db+".item", "id", "category")))
	const total = 500_000
	for i := range 5 {
		mustExec(b, c, fmt.Sprintf("INSERT INTO item SELECT %d + a.i + 10*b.i + 100*c.i + 1000*e.i + 10000*f.i, a.i, UUID(), REPEAT('t', 30), a.i, 1, NOW(), NOW(6), REPEAT('d', 60) FROM d a, d b, d c, d e, d f", i*100_000))
	}
	start := w.pos
	pos, err := parsePosition(start)
	if err != nil {
		b.Fatal(err)
	}
	set, err := parseSet(pos.Flavor, pos.Set)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("doubletap", func(b *testing.B) {
		for b.Loop() {
			ctx, cancel := context.WithCancel(b.Context())
			rows, began := 0, time.Now()
			_ = w.source.Run(ctx, start, func(_ context.Context, x pipeline.Batch) error {
				for _, t := range x.Tables {
					rows += len(t.Rows)
				}
				if rows == total {
					cancel()
				}
				return nil
			})
			b.ReportMetric(float64(rows)/time.Since(began).Seconds(), "rows/s")
		}
	})
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			ctx, cancel := context.WithCancel(b.Context())
			cfg := w.source.(*replicationSource).syncerConfig(ctx, &hangUp{}, nil)
			cfg.RawModeEnabled, cfg.SynchronousEventHandler, cfg.EventCacheCount = false, nil, 0
			cfg.ServerID = 3_000_000_000 + nextServerID.Add(1)
			syncer := replication.NewBinlogSyncer(cfg)
			rows, began := 0, time.Now()
			stream, err := syncer.StartSyncGTID(set.library())
			if err != nil {
				b.Fatal(err)
			}
			for rows < total {
				e, err := stream.GetEvent(ctx)
				if err != nil {
					b.Fatal(err)
				}
				if r, ok := e.Event.(*replication.RowsEvent); ok && string(r.Table.Table) == "item" {
					rows += len(r.Rows)
				}
			}
			b.ReportMetric(float64(rows)/time.Since(began).Seconds(), "rows/s")
			cancel()
			syncer.Close()
		}
	})
}
