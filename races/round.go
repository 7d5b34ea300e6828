package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// lane is keys that are raced together, over and over. Nobody else writes them,
// so that what is right is known exactly when a round ends.
type lane struct {
	ids      []int
	versions map[int]uint32 // committed
}

func newLanes(n, size int) []*lane {
	lanes := make([]*lane, n)
	for i := range lanes {
		l := &lane{versions: map[int]uint32{}}
		for j := range size {
			id := i*size + j
			l.ids = append(l.ids, id)
			l.versions[id] = 0
		}
		lanes[i] = l
	}
	return lanes
}

// part is the lane's first keys only; both must not be used at a time.
func (l *lane) part(n int) *lane { return &lane{ids: l.ids[:n], versions: l.versions} }

// script is what happens in one round: reads and writes of a lane's keys, each
// at its time.
type script struct {
	fills  []fill
	writes []write
	// opened makes the first write wait until each cache's first fill has read its
	// rows; the write's time counts from then.
	opened bool
	// again, if not 0, is how often further readers read from the source and from
	// the replica, until the round's writes are settled and at least for
	// the time in reads.
	again, reads time.Duration
	pad          int
}

// write is one transaction that updates rows of the lane.
type write struct {
	at  time.Duration
	ids []int
	// prepared is how long an XA transaction stays prepared; 0 is an ordinary one.
	prepared time.Duration
}

// done is what a round's writes left behind.
type done struct {
	versions map[int]uint32 // of the rows that were written
	executed string         // gtid_executed, read after the last commit
}

// round plays a script, waits until all is settled, and returns the stale ids
// of each cache.
func (w *world) round(ctx context.Context, l *lane, s script) (stale [][]int, err error) {
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	opened := w.startFills(ctx, g, l, s, began)
	for _, c := range w.caches {
		if s.again > 0 {
			for ids := range slices.Chunk(l.ids, 10) { // each few keys have their own luck
				for _, replica := range []bool{false, true} {
					g.Go(func() error { return c.repeat(ctx, reading, ids, s.again, fill{replica: replica, pad: s.pad}) })
				}
			}
		}
	}
	g.Go(func() error {
		defer stopReading()
		from := began
		if s.opened {
			opened.Wait()
			from = time.Now()
		}
		d, err := w.play(ctx, l, s.writes, from)
		if err != nil {
			return err
		}
		if err := w.settle(ctx, d); err != nil {
			return err
		}
		return pause(ctx, time.Until(began.Add(s.reads)))
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, c := range w.caches {
		ids, err := c.check(context.WithoutCancel(ctx), l)
		if err != nil {
			return nil, err
		}
		stale = append(stale, ids)
	}
	return stale, nil
}

// startFills starts the script's fills. Who waits for what it returns knows that
// each cache's first one has read its rows.
func (w *world) startFills(ctx context.Context, g *errgroup.Group, l *lane, s script, began time.Time) *sync.WaitGroup {
	opened := new(sync.WaitGroup)
	for _, c := range w.caches {
		for i, f := range s.fills {
			f.pad = s.pad
			ended := func() {}
			if i == 0 {
				opened.Add(1)
				f.opened = sync.OnceFunc(opened.Done)
				ended = f.opened // it found everything cached
			}
			g.Go(func() error {
				defer ended()
				if err := pause(ctx, time.Until(began.Add(f.at))); err != nil {
					return err
				}
				return c.fill(ctx, l.ids, f)
			})
		}
	}
	return opened
}

// repeat reads again and again until reading ends; a read that was begun is
// finished.
func (c *cache) repeat(ctx, reading context.Context, ids []int, every time.Duration, f fill) error {
	for pause(reading, every/2+rand.N(every)) == nil {
		f.hold = rand.N(every)
		if err := c.fill(ctx, ids, f); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// play makes the round's writes, one after the other.
func (w *world) play(ctx context.Context, l *lane, writes []write, began time.Time) (d done, err error) {
	d.versions = map[int]uint32{}
	for _, wr := range writes {
		if err := pause(ctx, time.Until(began.Add(wr.at))); err != nil {
			return d, err
		}
		if err := w.commit(ctx, l, wr); err != nil {
			return d, err
		}
		for _, id := range wr.ids {
			l.versions[id]++
			d.versions[id] = l.versions[id]
			w.ledger.commit(id, l.versions[id])
		}
	}
	err = w.sourceDB.QueryRowContext(ctx, "SELECT @@global.gtid_executed").Scan(&d.executed)
	return d, err
}

func (w *world) commit(ctx context.Context, l *lane, wr write) error {
	update := "UPDATE races.item SET version = version + 1 WHERE id IN (" + list(wr.ids) + ")"
	if wr.prepared == 0 {
		_, err := w.sourceDB.ExecContext(ctx, update)
		return wrap("write", err)
	}
	conn, err := w.sourceDB.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	xid := fmt.Sprintf("'races-%d'", w.xids.Add(1))
	for _, q := range []string{"XA START " + xid, update, "XA END " + xid, "XA PREPARE " + xid} {
		if _, err := conn.ExecContext(ctx, q); err != nil {
			return wrap(q, err)
		}
	}
	if err := pause(ctx, wr.prepared); err != nil {
		_, rollback := conn.ExecContext(context.WithoutCancel(ctx), "XA ROLLBACK "+xid)
		return errors.Join(err, rollback)
	}
	_, err = conn.ExecContext(ctx, "XA COMMIT "+xid)
	return wrap("XA COMMIT", err)
}

// settle waits until every cache's invalidator has done all that it owes.
func (w *world) settle(ctx context.Context, d done) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range w.caches {
		g.Go(func() error { return wrap("wait for the deletes of "+c.name, c.quiet(ctx, d)) })
	}
	return g.Wait()
}

// rows returns the versions that a server shows, and whether the session is for
// fills that are stored (see openFills).
func (w *world) rows(ctx context.Context, q querier, ids []int) (versions map[int]uint32, stored bool, err error) {
	rows, err := q.QueryContext(ctx, "SELECT id, version, @fills IS NOT NULL FROM races.item WHERE id IN ("+list(ids)+")")
	if err != nil {
		return nil, false, wrap("read rows", err)
	}
	defer rows.Close()
	versions = make(map[int]uint32, len(ids))
	for rows.Next() {
		var id int
		var v uint32
		if err := rows.Scan(&id, &v, &stored); err != nil {
			return nil, false, wrap("read rows", err)
		}
		versions[id] = v
	}
	return versions, stored, wrap("read rows", rows.Err())
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func list(ids []int) string {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(id))
	}
	return b.String()
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
