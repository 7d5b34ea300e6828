package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// backlog is what was written while nobody tailed: every run reads it anew.
type backlog struct {
	rows  int
	bytes int64
	start string // the GTID set before it
	end   string // and after it
}

func (b backlog) bytesPerRow() float64 { return float64(b.bytes) / float64(b.rows) }

const writers = 8

// A round is 250 row events, half inserts and half updates: 80 % of them in
// statements of 100 rows, the others in statements of one.
const (
	roundRows  = 250
	manyRows   = 100
	singleRows = 25
)

// writeBacklog writes at least the given number of row events.
func (w *world) writeBacklog(ctx context.Context, rows int) (b backlog, err error) {
	if b.start, err = w.executed(ctx); err != nil {
		return b, err
	}
	before, err := w.binlogBytes(ctx)
	if err != nil {
		return b, err
	}
	rounds := int64((rows + roundRows - 1) / roundRows)
	b.rows = int(rounds) * roundRows
	w.say("writing a backlog of %d row events", b.rows)
	var next atomic.Int64
	stop := w.every(5*time.Second, func() { w.say("  %d of %d", min(next.Load(), rounds)*roundRows, b.rows) })
	defer stop()
	g, gctx := errgroup.WithContext(ctx)
	for range writers {
		g.Go(func() error {
			conn, err := w.db.Conn(gctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			for {
				n := next.Add(1) - 1
				if n >= rounds {
					return nil
				}
				if err := writeRound(gctx, conn, n); err != nil {
					return fmt.Errorf("write the backlog: %w", err)
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return b, err
	}
	after, err := w.binlogBytes(ctx)
	if err != nil {
		return b, err
	}
	b.bytes = after - before
	b.end, err = w.executed(ctx)
	return b, err
}

// writeRound inserts and updates rows of its own: rounds never wait for each other.
func writeRound(ctx context.Context, conn *sql.Conn, round int64) error {
	first := round * (manyRows + singleRows)
	single := first + manyRows
	queries := []string{
		insert(first, manyRows),
		update(fmt.Sprintf("BETWEEN %d AND %d", first, single-1)),
	}
	for id := single; id < single+singleRows; id++ {
		queries = append(queries, insert(id, 1), update(fmt.Sprintf("= %d", id)))
	}
	for _, q := range queries {
		if _, err := conn.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

func insert(first int64, n int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO shop.item VALUES ")
	for id := first; id < first+int64(n); id++ {
		if id > first {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "(%d,%d,'SKU-%08d','on_sale',%d.99,%d,NOW(6),'A thing of some kind, number %010d','%s')",
			id, id%1000, id, id%500, id%90, id, description)
	}
	return b.String()
}

const description = "It is described in as many words as such things are in a shop: about eighty."

func update(ids string) string {
	return "UPDATE shop.item SET price = price + 1, stock = stock - 1, updated = NOW(6) WHERE id " + ids
}

// every calls fn again and again until the returned function is called.
func (w *world) every(d time.Duration, fn func()) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				fn()
			}
		}
	}()
	return func() { close(done); <-ended }
}
