package binlog

import (
	"context"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// A new binlog file, and the checkpoint event in it, move the place that
// snapshots name past a transaction that is still held up.
func TestNewBinlogFileHidesNoCommit(t *testing.T) {
	for _, c := range []struct {
		name   string
		before string
		text   string // makes the transaction large, so that the file ends with it
	}{
		{"the transaction is the last in its file", "DO 1", "REPEAT('x', 10000)"},
		{"a checkpoint event comes behind it", "FLUSH BINARY LOGS", "''"},
	} {
		for _, by := range []string{"gate", "reader", "new reader"} {
			t.Run(c.name+", "+by, func(t *testing.T) {
				t.Parallel()
				cfg := rootConfig(envtest.MariaDB(t, testenv.MySQLOptions{Args: []string{"--max-binlog-size=4096"}}))
				stall(t, cfg, 2*time.Second)
				w := mustConnect(t, cfg)
				mustExec(t, w, "CREATE DATABASE d", "CREATE TABLE d.probe (id INT PRIMARY KEY, v INT NOT NULL)", "INSERT INTO d.probe VALUES (0, 0)",
					"CREATE TABLE d.big (v TEXT)")
				var gate pipeline.Gate
				if by == "gate" {
					g := NewGate(cfg, pipeline.Hooks{})
					t.Cleanup(g.Close)
					gate = g
				} else {
					gate = &askingGate{r: newReader(t, cfg)}
				}
				if by != "new reader" {
					if err := gate.Wait(t.Context(), pipeline.Txn{GTID: "0-1-1", File: "binlog.000001", Offset: 4}); err != nil {
						t.Fatal(err)
					}
				}
				stream := follow(t, t.Context(), cfg)
				mustExec(t, w, "BEGIN", "INSERT INTO d.big VALUES ("+c.text+")", "UPDATE d.probe SET v = 1 WHERE id = 0")
				semiSyncOn(t, cfg)
				mustExec(t, mustConnect(t, cfg), c.before)
				start, done := time.Now(), make(chan error, 1)
				go func() {
					_, err := w.Execute("COMMIT")
					done <- err
				}()
				txn := stream.until(t, t.Context(), 1)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				if err := gate.Wait(ctx, txn); err != nil {
					t.Fatal(err)
				}
				held := time.Since(start)
				res, err := mustConnect(t, cfg).Execute("SELECT v FROM d.probe")
				if err != nil {
					t.Fatal(err)
				}
				if v, _ := res.GetInt(0, 0); v != 1 {
					t.Errorf("let through after %v, and the row is old", held)
				}
				if err := <-done; err != nil || held < 1900*time.Millisecond {
					t.Errorf("held for %v, %v; want 2 s", held, err)
				}
				t.Logf("held for %v", held)
			})
		}
	}
}
