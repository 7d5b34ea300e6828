package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// The shop: items, each cached under item:{id}, in categories, whose lists are
// cached under category:{category}:items.
const (
	items      = 1000
	categories = 50
	writers    = 4
	readers    = 6
)

const keysYAML = `version: 1
keys:
  - name: item
    table: shop.item
    key: "item:{id}"
  - name: category-items        # both the old and the new category's list
    table: shop.item
    key: "category:{category}:items"
    columns: [category]
`

type shop struct {
	db    *sql.DB
	cache *redis.Client
}

func newShop(ctx context.Context, db *sql.DB, cache *redis.Client) (*shop, error) {
	for _, q := range []string{
		"CREATE DATABASE shop",
		"CREATE TABLE shop.item (id INT PRIMARY KEY, category INT NOT NULL, price INT NOT NULL, KEY (category))",
	} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return nil, fmt.Errorf("make the shop: %w", err)
		}
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	for id := range items {
		if _, err := tx.ExecContext(ctx, "INSERT INTO shop.item VALUES (?, ?, 100)", id, id%categories); err != nil {
			return nil, errors.Join(fmt.Errorf("fill the shop: %w", err), tx.Rollback())
		}
	}
	return &shop{db, cache}, tx.Commit()
}

// total is the number of keys that can be stale.
func (s *shop) total() int { return items + categories }

func (s *shop) clearCache(ctx context.Context) error { return s.cache.FlushAll(ctx).Err() }

// load is writers and look-aside readers at work.
type load struct {
	shop    *shop
	cancel  context.CancelFunc
	writing sync.WaitGroup
	reading sync.WaitGroup
	ending  atomic.Bool // writers end after the write that they are in
	commits atomic.Int64
	reads   atomic.Int64
	fills   atomic.Int64
	failed  atomic.Pointer[error]
}

func (s *shop) start(ctx context.Context) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{shop: s, cancel: cancel}
	for range writers {
		l.writing.Go(func() { l.note(ctx, l.write(ctx)) })
	}
	for range readers {
		l.reading.Go(func() { l.note(ctx, l.read(ctx)) })
	}
	return l
}

func (l *load) note(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		l.failed.CompareAndSwap(nil, &err)
		l.cancel()
	}
}

func (l *load) err() error {
	if err := l.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// write changes prices, and moves every fourth item to another category.
func (l *load) write(ctx context.Context) error {
	for !l.ending.Load() {
		id := rand.IntN(items)
		query, arg := "UPDATE shop.item SET price = price + ? WHERE id = ?", 1
		if rand.IntN(4) == 0 {
			query, arg = "UPDATE shop.item SET category = ? WHERE id = ?", rand.IntN(categories)
		}
		if _, err := l.shop.db.ExecContext(ctx, query, arg, id); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		l.commits.Add(1)
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// read looks a key up in the cache, and fills it on a miss, as applications do.
func (l *load) read(ctx context.Context) error {
	for ctx.Err() == nil {
		n := rand.IntN(l.shop.total())
		key := keyOf(n)
		_, err := l.shop.cache.Get(ctx, key).Result()
		l.reads.Add(1)
		switch {
		case err == nil:
			if err := pause(ctx, 200*time.Microsecond); err != nil {
				return err
			}
			continue
		case !errors.Is(err, redis.Nil):
			return fmt.Errorf("read the cache: %w", err)
		}
		value, err := l.shop.row(ctx, n)
		if err != nil {
			return fmt.Errorf("read the shop: %w", err)
		}
		// Time passes between a SELECT and its SET, here well below fill.
		if err := pause(ctx, rand.N(20*time.Millisecond)); err != nil {
			return err
		}
		if err := l.shop.cache.Set(ctx, key, value, 0).Err(); err != nil {
			return fmt.Errorf("fill the cache: %w", err)
		}
		l.fills.Add(1)
	}
	return ctx.Err()
}

func keyOf(n int) string {
	if n < items {
		return "item:" + strconv.Itoa(n)
	}
	return "category:" + strconv.Itoa(n-items) + ":items"
}

// row is what belongs under the n-th key.
func (s *shop) row(ctx context.Context, n int) (value string, err error) {
	if n < items {
		err = s.db.QueryRowContext(ctx, "SELECT CONCAT(category, '/', price) FROM shop.item WHERE id = ?", n).Scan(&value)
	} else {
		err = s.db.QueryRowContext(ctx, "SELECT COALESCE(GROUP_CONCAT(id ORDER BY id), '') FROM shop.item WHERE category = ?", n-items).Scan(&value)
	}
	return value, err
}

// lastWrites lets the writers end after the write that they begin next.
func (l *load) lastWrites() {
	time.AfterFunc(200*time.Millisecond, func() { l.ending.Store(true) })
}

// finishWrites waits until the last commit is visible.
func (l *load) finishWrites(ctx context.Context) error {
	l.ending.Store(true)
	l.writing.Wait()
	return errors.Join(l.err(), ctx.Err())
}

// stop ends the readers too.
func (l *load) stop() {
	l.ending.Store(true)
	l.cancel()
	l.writing.Wait()
	l.reading.Wait()
}

// stale counts the cached values that are not what the shop says.
func (s *shop) stale(ctx context.Context) (int, error) {
	stale := 0
	for n := range s.total() {
		cached, err := s.cache.Get(ctx, keyOf(n)).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("compare the cache with the shop: %w", err)
		}
		want, err := s.row(ctx, n)
		if err != nil {
			return 0, fmt.Errorf("compare the cache with the shop: %w", err)
		}
		if cached != want {
			stale++
		}
	}
	return stale, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
