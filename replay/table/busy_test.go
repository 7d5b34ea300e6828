package table_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// busy is a table that writers change while it is walked: rows come and go, and
// change the column that their keys are made of, and their primary keys.
type busy struct {
	*rig
	wg    sync.WaitGroup
	stop  context.CancelFunc
	begun pipeline.View
	wrote chan struct{}
}

const busyRows = 3000

func newBusy(t *testing.T, f flavor) *busy {
	b := &busy{rig: newRig(t, f, `{name: item, table: "%s.item", key: "item:{id}"}`, `{name: list, table: "%s.item", key: "list:{category}"}`)}
	b.exec("CREATE TABLE item (id INT PRIMARY KEY, category INT NOT NULL)")
	var values []string
	for i := range busyRows {
		values = append(values, fmt.Sprintf("(%d, %d)", i*10, i))
	}
	b.exec("INSERT INTO item VALUES " + strings.Join(values, ", "))
	b.begun = b.view()
	ctx, stop := context.WithCancel(t.Context())
	b.wrote = make(chan struct{})
	b.onChunk = func() { // the writers go on between chunks, however fast the walk is
		for range 3 {
			select {
			case <-b.wrote:
			case <-ctx.Done():
			}
		}
	}
	b.stop = func() { stop(); b.wg.Wait() }
	t.Cleanup(b.stop)
	for n := range 3 {
		conn, rng := b.open(), rand.New(rand.NewPCG(uint64(n), 9))
		if _, err := conn.Execute("USE " + b.db); err != nil {
			t.Fatal(err)
		}
		b.wg.Go(func() { b.write(ctx, conn, rng, n) })
	}
	return b
}

func (b *busy) write(ctx context.Context, conn *client.Conn, rng *rand.Rand, writer int) {
	for n := 0; ctx.Err() == nil; n++ {
		id := rng.IntN(busyRows) * 10
		sql := fmt.Sprintf("UPDATE item SET category = %d WHERE id = %d", 1_000_000*(writer+1)+n, id)
		switch rng.IntN(5) {
		case 0:
			sql = fmt.Sprintf("DELETE FROM item WHERE id = %d", id)
		case 1:
			sql = fmt.Sprintf("INSERT IGNORE INTO item VALUES (%d, %d)", rng.IntN(busyRows*10), 1_000_000*(writer+1)+n)
		case 2:
			sql = fmt.Sprintf("UPDATE IGNORE item SET id = %d WHERE id = %d", rng.IntN(busyRows*10), id)
		}
		if _, err := conn.Execute(sql); err != nil {
			b.t.Errorf("%s: %v", sql, err)
			return
		}
		select {
		case b.wrote <- struct{}{}:
		default:
		}
	}
}

// changedBetween returns the keys of both images of each change from one set to another.
func (b *busy) changedBetween(from, to gtid.Set) (all []string) {
	_ = b.follow(from.String(), to, func(_ context.Context, bt pipeline.Batch) error {
		for _, tr := range copied(bt.Tables) {
			made, _ := keysOf(b.deps.Schema, tr)
			all = append(all, made...)
		}
		return nil
	})
	return all
}

// keysNow returns the keys of the rows that there are.
func (b *busy) keysNow() (all []string) {
	for _, row := range b.texts("SELECT id, category FROM item") {
		all = append(all, "item:"+row[0], "list:"+row[1])
	}
	return all
}
