package history

import (
	"context"
	"testing"

	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// BenchmarkBinlog replays 500,000 rows, one by one in transactions of a thousand,
// from a server and from its files.
func BenchmarkBinlog(b *testing.B) {
	schema, err := keys.Parse("bench.yaml", []byte("version: 1\nkeys:\n  - name: item\n    table: shop.item\n    key: \"item:{id}\"\n"))
	if err != nil {
		b.Fatal(err)
	}
	l := &binlogLab{TB: b, server: envtest.MySQL(b, testenv.MySQLOptions{Fast: true}), schema: schema}
	l.db = envtest.DB(b, l.server)
	l.db.SetMaxOpenConns(1)
	l.cfg = binlog.Config{Name: "shop", Addr: l.server.Addr, User: "root", ServerID: 3_100_000_000 + labServerID.Add(1), Schema: schema}
	if l.srv, err = binlog.Detect(b.Context(), l.cfg); err != nil {
		b.Fatal(err)
	}
	l.exec("CREATE DATABASE shop", "USE shop", "CREATE TABLE item (id INT PRIMARY KEY AUTO_INCREMENT, pad VARCHAR(100))",
		"CREATE TABLE d (i INT)", "INSERT INTO d VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
	from := l.executed()
	for range 500 {
		l.exec("INSERT INTO item (pad) SELECT REPEAT('p', 100) FROM d a, d b, d c")
	}
	folder, _ := l.copyBinlogs()
	for name, deps := range map[string]func() BinlogDeps{"server": l.deps, "files": l.files("", folder)} {
		b.Run(name, func(b *testing.B) {
			rows := int64(0)
			for b.Loop() {
				p := l.plan(deps, BinlogSpec{After: from})
				err := p.source.Read(b.Context(), "", func(_ context.Context, c replay.Chunk) error {
					rows += c.Rows
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
