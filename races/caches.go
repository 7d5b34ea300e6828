package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// The caches that are raced side by side: each has its own keys in the one
// Redis, for the same rows, and its own way to be invalidated.
const (
	none     = "none"     // nobody deletes
	one      = "one"      // one delete, when the binlog event arrives
	textbook = "textbook" // the same, and again a second later, from a timer
	plain    = "plain"    // doubletap, with readers that use GET and SET
	lease    = "lease"    // doubletap, with readers that use package cache
)

var names = []string{none, one, textbook, plain, lease}

// cache is one of them.
type cache struct {
	name  string
	index int // in the ledger
	w     *world
	// fill reads keys as an application does, and stores what was missing.
	fill func(ctx context.Context, ids []int, f fill) error
	// quiet waits until everything that a finished commit makes this cache's
	// invalidator do is done.
	quiet func(ctx context.Context, d done) error
}

// fill is one look-aside read of some keys.
type fill struct {
	at      time.Duration // from the round's beginning
	hold    time.Duration // between SELECT and SET
	replica bool          // what it reads from
	pad     int           // bytes that make the value large
	// opened, if not nil, is called when the SELECT has returned.
	opened func()
}

// holds tells that the SELECT has returned.
func (f fill) holds() {
	if f.opened != nil {
		f.opened()
	}
}

func key(cache string, id int) string { return cache + ":" + strconv.Itoa(id) }

func keysOf(cache string, ids []int) []string {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = key(cache, id)
	}
	return keys
}

// plainFill is what applications do without a client of ours: GET, SELECT, SET.
func (c *cache) plainFill(ctx context.Context, ids []int, f fill) error {
	values, err := c.w.redis.MGet(ctx, keysOf(c.name, ids)...).Result()
	if err != nil {
		return fmt.Errorf("read the cache: %w", err)
	}
	var missing []int
	for i, v := range values {
		if v == nil {
			missing = append(missing, ids[i])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	opened := time.Now()
	rows, _, err := c.w.rows(ctx, c.w.db(f.replica), missing)
	if err != nil {
		return err
	}
	release := c.w.ledger.hold(c.index, rows)
	defer release()
	f.holds()
	if err := pause(ctx, f.hold); err != nil {
		return err
	}
	if f.hold < c.w.fill && time.Since(opened) > c.w.fill*3/4 {
		return nil // too late to store it: the promise is about fills that take no longer than fill
	}
	pad := strings.Repeat("x", f.pad)
	pipe := c.w.redis.Pipeline()
	ran := make(map[int]*redis.TimeCmd, len(rows))
	for id, v := range rows {
		pipe.Set(ctx, key(c.name, id), strconv.Itoa(int(v))+":"+pad, 0)
		ran[id] = pipe.Time(ctx) // when the SET ran, by the clock of this machine
	}
	release()
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("fill the cache: %w", err)
	}
	b := c.w.ledger.books[c.index]
	b.fills.Add(int64(len(rows)))
	promised := c.w.promised(opened)
	for id, v := range rows {
		if f.hold < c.w.fill && ran[id].Val().After(promised) {
			b.beyond.Add(1)
			b.late[id].Store(v + 1)
		}
	}
	return nil
}

// check compares the cache with the versions of a lane's rows, which nobody is
// changing, and returns the ids whose value is another one.
func (c *cache) check(ctx context.Context, l *lane) (stale []int, err error) {
	ids := l.ids
	values, err := c.w.redis.MGet(ctx, keysOf(c.name, ids)...).Result()
	if err != nil {
		return nil, fmt.Errorf("compare the cache with the table: %w", err)
	}
	b := c.w.ledger.books[c.index]
	for i, v := range values {
		b.checked.Add(1)
		text, ok := v.(string)
		if !ok {
			continue
		}
		version, ok, err := versionOf(text)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", key(c.name, ids[i]), err)
		}
		if !ok {
			continue
		}
		b.cached.Add(1)
		switch id := ids[i]; {
		case version == l.versions[id]:
		case b.late[id].Load() == version+1:
			b.excused.Add(1)
		default:
			b.stale.Add(1)
			stale = append(stale, id)
		}
	}
	return stale, nil
}

// versionOf finds the row's version in a cached value; a lease has none. The
// framing of lease rules is that of docs/cache-protocol.md, read here by other
// code than wrote it.
func versionOf(value string) (version uint32, ok bool, err error) {
	if rest, framed := strings.CutPrefix(value, "\x00dt1"); framed {
		switch {
		case strings.HasPrefix(rest, "L"):
			return 0, false, nil
		case !strings.HasPrefix(rest, "V"):
			return 0, false, errors.New("neither a lease nor a value, and the row is there")
		}
		body := []byte(rest[1:])
		meta, n := binary.Uvarint(body)
		if n <= 0 || uint64(len(body)-n) < meta {
			return 0, false, errors.New("a value's frame is broken")
		}
		value = string(body[n+int(meta):])
	}
	digits, _, _ := bytes.Cut([]byte(value[:min(len(value), 16)]), []byte(":"))
	number, err := strconv.ParseUint(string(digits), 10, 32)
	if err != nil {
		return 0, false, errors.New("the value is none of ours")
	}
	return uint32(number), true, nil
}

// expire removes keys, as a TTL does.
func (c *cache) expire(ctx context.Context, ids []int) error {
	pipe := c.w.redis.Pipeline()
	for _, k := range keysOf(c.name, ids) {
		pipe.Unlink(ctx, k)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("expire keys: %w", err)
	}
	return nil
}
