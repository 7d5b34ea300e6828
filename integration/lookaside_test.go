package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// storm reads rows through a look-aside cache, and writes rows, from many goroutines. Readers pause between their SELECT
// and their SET, as real ones do when they are descheduled.
type storm struct {
	r     *rig
	cache *redis.Client
	fill  time.Duration
	rows  int

	hits, fills, writes atomic.Int64
}

func (s *storm) key(id int) string { return "item:" + strconv.Itoa(id) }

// value is what the cache should hold.
func (s *storm) value(ctx context.Context, id int) (string, error) {
	var price, note string
	err := s.r.sql.QueryRowContext(ctx, "SELECT price, note FROM item WHERE id = ?", id).Scan(&price, &note)
	return price + "/" + note, err
}

// read is the look-aside read of an application; pause is between its SELECT and its SET.
func (s *storm) read(ctx context.Context, id int, pause time.Duration) error {
	k := s.key(id)
	err := s.cache.Get(ctx, k).Err()
	if err == nil {
		s.hits.Add(1)
		return nil
	}
	if !errors.Is(err, redis.Nil) {
		return err
	}
	began := time.Now()
	v, err := s.value(ctx, id)
	if err != nil {
		return err
	}
	if pause > 0 {
		<-time.After(pause)
	}
	if time.Since(began) > s.fill/2 {
		return nil // too late to store it: the promise is about fills that take no longer than fill
	}
	if err := s.cache.Set(ctx, k, v, 0).Err(); err != nil {
		return err
	}
	s.fills.Add(1)
	if time.Since(began) > s.fill {
		return s.cache.Del(ctx, k).Err() // the machine was too slow for the promise
	}
	return nil
}

// work runs n goroutines until ctx ends; it returns at once, wait when they have ended.
func (s *storm) work(ctx context.Context, n int, fn func(i int) error) (wait func()) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := fn(i); err != nil && ctx.Err() == nil && !errors.Is(err, sql.ErrNoRows) {
					s.r.t.Error(err)
					return
				}
			}
		})
	}
	return wg.Wait
}

func (s *storm) readers(ctx context.Context) (wait func()) {
	rngs := newRands(s.r.seed, 6)
	return s.work(ctx, len(rngs), func(i int) error {
		rng, pause := rngs[i], time.Duration(0)
		switch rng.IntN(20) {
		case 0:
			pause = time.Duration(rng.Int64N(int64(s.fill / 2)))
		case 1, 2, 3:
			pause = time.Duration(rng.Int64N(int64(3 * time.Millisecond)))
		}
		return s.read(ctx, rng.IntN(s.rows)+1, pause)
	})
}

func (s *storm) writers(ctx context.Context) (wait func()) {
	rngs := newRands(s.r.seed+1, 3)
	return s.work(ctx, len(rngs), func(i int) error {
		rng, id := rngs[i], rngs[i].IntN(s.rows)+1
		s.writes.Add(1)
		_, err := s.r.sql.ExecContext(ctx, "UPDATE item SET price = price + 1, note = ? WHERE id BETWEEN ? AND ?", rng.IntN(1e9), id, id+rng.IntN(4))
		<-time.After(time.Duration(rng.Int64N(int64(10 * time.Millisecond))))
		return err
	})
}

// stale returns the keys whose cached value is not the row's.
func (s *storm) stale(t *testing.T) (wrong []string, cached int) {
	t.Helper()
	for id := 1; id <= s.rows; id++ {
		v, err := s.cache.Get(t.Context(), s.key(id)).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		want, rowErr := s.value(t.Context(), id)
		if err := errors.Join(err, rowErr); err != nil {
			t.Fatal(err)
		}
		cached++
		if v != want {
			wrong = append(wrong, fmt.Sprintf("%s is %s in the cache and %s in the table; deletes: %v", s.key(id), v, want, s.r.mon.times(s.key(id))))
		}
	}
	return wrong, cached
}

// TestLookAside runs a storm of readers and writers through the pipeline: at rest, each cached value is the row's. The same
// storm without the pipeline leaves stale values, so the check can fail.
func TestLookAside(t *testing.T) {
	for _, on := range []bool{false, true} {
		t.Run(map[bool]string{false: "without", true: "with"}[on], func(t *testing.T) {
			r := newRig(t, options{embedded: true, fill: 2 * time.Second})
			s := &storm{r: r, cache: r.cache(), fill: r.o.fill, rows: 200}
			for id := range s.rows {
				r.exec("INSERT INTO item VALUES (?, 1, 'sku', 1, 'draft', '0')", id+1)
			}
			if on {
				r.pipeline(0)
				r.settle()
			}
			reading, stopReading := context.WithCancel(t.Context())
			writing, stopWriting := context.WithCancel(t.Context())
			defer stopReading()
			readersEnd, writersEnd := s.readers(reading), s.writers(writing)
			time.AfterFunc(time.Duration(pick(4, 60))*time.Second, stopWriting)
			writersEnd()
			if on {
				r.settle() // the readers go on: what they put back now would stay
				eventually(t, stalled, "the readers have filled the cache again", func() bool {
					return s.cache.DBSize(t.Context()).Val() >= int64(s.rows*3/4)
				})
			}
			stopReading()
			readersEnd()
			wrong, cached := s.stale(t)
			t.Logf("%d writes, %d hits, %d fills; %d of %d cached values are stale", s.writes.Load(), s.hits.Load(), s.fills.Load(), len(wrong), cached)
			switch {
			case on && len(wrong) > 0:
				t.Errorf("%d stale values, for example %s\n%s", len(wrong), wrong[0], r.state())
			case !on && len(wrong) == 0:
				t.Error("no value is stale without the pipeline: this test cannot fail")
			}
		})
	}
}
