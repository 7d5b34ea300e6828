package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	latencyRate  = 200 // commits a second, of one row each
	latencyCalm  = 15 * time.Second
	replicaStops = 30 * time.Second
	// wantRatio is how much slower the p99 of first deletes may be while a replica
	// stands still.
	wantRatio = 1.5
)

// latencies of first deletes, from the sending of COMMIT to Redis' own
// notification that the key is gone.
type latencies struct {
	P50  time.Duration `json:"p50"`
	P99  time.Duration `json:"p99"`
	N    int           `json:"n"`
	Lost int           `json:"lost"` // keys of which no delete was seen
}

// stopped is first deletes before and while a replica stands still.
type stopped struct {
	For     time.Duration `json:"for"`
	Calm    latencies     `json:"calm"`
	Stopped latencies     `json:"stopped"`
	Stale   int           `json:"stale"` // keys, once the replica was back
}

func (s stopped) ratio() float64 { return float64(s.Stopped.P99) / float64(s.Calm.P99) }

func (s stopped) print(out io.Writer) {
	for _, l := range []struct {
		name string
		latencies
	}{{"replica at work", s.Calm}, {"replica stopped for " + s.For.String(), s.Stopped}} {
		fmt.Fprintf(out, "  commit to first delete, %-24s p50 %-10s p99 %-10s (%d commits at %d/s, %d not seen)\n", l.name+":",
			l.P50.Round(10*time.Microsecond), l.P99.Round(10*time.Microsecond), l.N, latencyRate, l.Lost)
	}
	fmt.Fprintf(out, "  p99 with the replica stopped is %.2f times that without, %g is allowed; stale keys after it came back: %d of %d\n",
		s.ratio(), wantRatio, s.Stale, s.Stopped.N)
}

// stopReplicaAndMeasure shows that a reader which is late holds up no first
// delete, and that what fills read from it meanwhile does not stay.
func (w *world) stopReplicaAndMeasure(ctx context.Context, calm, stop time.Duration) (s stopped, err error) {
	n := int(stop.Seconds() * latencyRate)
	l := newLanes(1, min(n, w.keys))[0]
	for id, v := range l.versions {
		l.versions[id] = max(v, w.ledger.committed[id].Load())
	}
	c := w.cacheNamed(plain)
	if c == nil {
		return s, errors.New("the cache " + plain + " is not raced")
	}
	s.For = stop
	// A delete that is still owed would take a key away before its commit.
	if err := w.allQuiet(ctx, c); err != nil {
		return s, err
	}
	if s.Calm, err = w.firstDeletes(ctx, l, int(calm.Seconds()*latencyRate)); err != nil {
		return s, err
	}
	if err := w.allQuiet(ctx, c); err != nil {
		return s, err
	}
	g, during := errgroup.WithContext(ctx)
	stopping, running := context.WithCancel(during)
	defer running()
	g.Go(func() error { return w.stopReplica(stopping, stop+10*time.Second) })
	g.Go(func() (err error) {
		defer running()
		s.Stopped, err = w.firstDeletes(during, l, n)
		if err != nil {
			return err
		}
		// What fills put back now is older than the row, wherever the replica had
		// not applied it.
		return c.fill(during, l.ids, fill{replica: true})
	})
	if err := g.Wait(); err != nil {
		return s, err
	}
	if err := w.allQuiet(ctx, c); err != nil {
		return s, err
	}
	stale, err := c.check(ctx, l)
	s.Stale = len(stale)
	return s, err
}

// allQuiet waits until both passes are behind everything that was committed.
func (w *world) allQuiet(ctx context.Context, c *cache) error {
	executed, err := w.executed(ctx)
	if err != nil {
		return err
	}
	return c.quiet(ctx, done{executed: executed})
}

func (w *world) cacheNamed(name string) *cache {
	for _, c := range w.caches {
		if c.name == name {
			return c
		}
	}
	return nil
}

// cachePlain caches the lane's rows for plain readers.
func (w *world) cachePlain(ctx context.Context, l *lane) error {
	pipe := w.redis.Pipeline()
	for _, id := range l.ids {
		pipe.Set(ctx, key(plain, id), strconv.Itoa(int(l.versions[id]))+":", 0)
	}
	_, err := pipe.Exec(ctx)
	return wrap("fill the cache", err)
}

// firstDeletes caches keys, commits an update of each, one by one at the rate,
// and waits until Redis has said that each is deleted.
func (w *world) firstDeletes(ctx context.Context, l *lane, n int) (q latencies, err error) {
	if err := w.cachePlain(ctx, l); err != nil {
		return q, err
	}
	if err := w.redis.ConfigSet(ctx, "notify-keyspace-events", "Eg").Err(); err != nil {
		return q, err
	}
	defer func() {
		err = errors.Join(err, w.redis.ConfigSet(context.WithoutCancel(ctx), "notify-keyspace-events", "").Err())
	}()
	sub := w.redis.Subscribe(ctx, "__keyevent@0__:del")
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		return q, err
	}
	var mu sync.Mutex
	sent, took := map[int]time.Time{}, []time.Duration{}
	all := make(chan struct{})
	n = min(n, len(l.ids))
	go func() {
		for m := range sub.Channel() {
			now := time.Now()
			digits, ok := strings.CutPrefix(m.Payload, plain+":")
			id, err := strconv.Atoi(digits)
			mu.Lock()
			at, known := sent[id]
			if ok && err == nil && known {
				delete(sent, id)
				if took = append(took, now.Sub(at)); len(took) == n {
					close(all)
				}
			}
			mu.Unlock()
		}
	}()
	err = w.commitOneByOne(ctx, l, n, func(id int) {
		mu.Lock()
		sent[id] = time.Now()
		mu.Unlock()
	})
	if err != nil {
		return q, err
	}
	select {
	case <-all:
	case <-time.After(5 * time.Second):
	case <-ctx.Done():
		return q, ctx.Err()
	}
	mu.Lock()
	defer mu.Unlock()
	return quantiles(took, n), nil
}

func (w *world) commitOneByOne(ctx context.Context, l *lane, n int, sending func(id int)) error {
	g, committing := errgroup.WithContext(ctx)
	g.SetLimit(16)
	began := time.Now()
	for i := range n {
		if err := pause(committing, time.Until(began.Add(time.Duration(i)*time.Second/latencyRate))); err != nil {
			break
		}
		id := l.ids[i]
		g.Go(func() error {
			sending(id)
			return w.commit(committing, l, write{ids: []int{id}})
		})
	}
	err := g.Wait()
	for i := range n {
		l.versions[l.ids[i]]++
		w.ledger.commit(l.ids[i], l.versions[l.ids[i]])
	}
	return errors.Join(err, ctx.Err())
}

func quantiles(took []time.Duration, n int) latencies {
	q := latencies{N: n, Lost: n - len(took)}
	if len(took) > 0 {
		slices.Sort(took)
		q.P50, q.P99 = took[len(took)/2], took[len(took)*99/100]
	}
	return q
}
