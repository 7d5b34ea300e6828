package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	commitsPerSecond = 500
	warmUp           = 2 * time.Second // of the load; not counted
	settle           = 3 * time.Second // for the last deletes to be seen
	firstLoadID      = 1 << 40         // rows of the load, beside the backlog's
)

// load is commits of single-row updates: n of them, the first of which do not
// count, at so many a second, or as fast as the server takes them.
type load struct {
	n, warm int
	rate    int // 0: without a pause
}

func steady(length time.Duration) load {
	return load{
		n:    int((warmUp + length).Seconds() * commitsPerSecond),
		warm: int(warmUp.Seconds() * commitsPerSecond), rate: commitsPerSecond,
	}
}

// watcher learns from Redis itself when a key is gone: by its notifications of
// deleted keys, on a connection that does nothing else.
type watcher struct {
	warm      int
	mu        sync.Mutex
	committed map[string]time.Time // when COMMIT was sent
	latencies []time.Duration
}

// commitLoad commits single-row updates, each of a row whose key is cached, and
// measures from the sending of COMMIT to the notification that
// the key is deleted. So the commit's own time is in the figure, and no delete
// can come before its start.
//
// The rate is that of the commits, warm-up included.
func (w *world) commitLoad(ctx context.Context, l load) (q quantiles, err error) {
	n := l.n
	for first := 0; first < n; first += 1000 {
		if _, err := w.db.ExecContext(ctx, replaceInto(firstLoadID+int64(first), min(1000, n-first))); err != nil {
			return q, fmt.Errorf("make the rows: %w", err)
		}
	}
	// The rows that were just written have their deletes, both of them, first.
	if err := pause(ctx, settle); err != nil {
		return q, err
	}
	if err := w.fillCache(ctx, n); err != nil {
		return q, err
	}
	if err := w.cache.ConfigSet(ctx, "notify-keyspace-events", "Kg").Err(); err != nil {
		return q, err
	}
	defer func() {
		err = errors.Join(err, w.cache.ConfigSet(context.WithoutCancel(ctx), "notify-keyspace-events", "").Err())
	}()
	watch := &watcher{warm: l.warm, committed: make(map[string]time.Time, n)}
	// Of the load's keys only: what a replay deletes beside it would be in the way,
	// in Redis and here.
	sub := w.cache.PSubscribe(ctx, keyspace+loadKeys())
	if _, err := sub.Receive(ctx); err != nil {
		return q, errors.Join(err, sub.Close())
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for m := range sub.Channel() {
			if m.Payload == "del" {
				watch.deleted(strings.TrimPrefix(m.Channel, keyspace), time.Now())
			}
		}
	})
	began := time.Now()
	err = w.commits(ctx, l, watch)
	took := time.Since(began)
	if err == nil {
		err = watch.finished(ctx)
	}
	err = errors.Join(err, sub.Close())
	reading.Wait()
	if err != nil {
		return q, err
	}
	q = quantilesOf(watch.latencies)
	q.Lost = n - l.warm - q.N
	q.Rate = float64(n) / took.Seconds()
	return q, nil
}

func replaceInto(first int64, n int) string { return "REPLACE" + insert(first, n)[len("INSERT"):] }

// keyspace is what the channels of notifications about keys begin with.
const keyspace = "__keyspace@0__:"

// loadKeys is a pattern for the keys of the load, and for no key of the other rows,
// whose numbers are shorter.
func loadKeys() string {
	const first = 5 // digits that all have in common
	id := strconv.Itoa(firstLoadID)
	return "item:" + id[:first] + strings.Repeat("?", len(id)-first)
}

func loadKey(i int) string { return fmt.Sprintf("item:%d", firstLoadID+i) }

func (w *world) fillCache(ctx context.Context, n int) error {
	pipe := w.cache.Pipeline()
	for i := range n {
		pipe.Set(ctx, loadKey(i), "a cached row", 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("fill the cache: %w", err)
	}
	return nil
}

// commits makes the load's commits over some connections, paced where it has a
// rate. A late one is not left out and the others do not wait for it.
func (w *world) commits(ctx context.Context, l load, watch *watcher) error {
	due := make(chan int, l.n)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(due)
		began := time.Now()
		for i := range l.n {
			if l.rate > 0 {
				at := began.Add(time.Duration(i) * time.Second / time.Duration(l.rate))
				if err := pause(ctx, time.Until(at)); err != nil {
					return err
				}
			}
			due <- i
		}
		return nil
	})
	for range writers {
		g.Go(func() error {
			conn, err := w.db.Conn(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			for i := range due {
				id := firstLoadID + int64(i)
				if _, err := conn.ExecContext(ctx, "BEGIN; "+update(fmt.Sprintf("= %d", id))); err != nil {
					return fmt.Errorf("update: %w", err)
				}
				watch.commit(i)
				if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
					return fmt.Errorf("commit: %w", err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func (w *watcher) commit(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i >= w.warm {
		w.committed[loadKey(i)] = time.Now()
	}
}

func (w *watcher) deleted(key string, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if sent, ok := w.committed[key]; ok {
		w.latencies = append(w.latencies, at.Sub(sent))
		delete(w.committed, key)
	}
}

// finished waits until every delete was seen, or settle is over.
func (w *watcher) finished(ctx context.Context) error {
	limit := time.Now().Add(settle)
	for time.Now().Before(limit) {
		w.mu.Lock()
		left := len(w.committed)
		w.mu.Unlock()
		if left == 0 {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
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
