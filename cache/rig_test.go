package cache

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// shelf is a table of items on MySQL, and clients that cache them.
type shelf struct {
	db     *sql.DB
	table  string
	schema *keys.Schema
	fills  atomic.Int64 // how many ran
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	return newShelfOn(t, envtest.MySQL(t))
}

func newShelfOn(t *testing.T, s *testenv.Server) *shelf {
	t.Helper()
	sh := &shelf{db: envtest.DB(t, s), table: envtest.Database(t, s) + ".item"}
	run(t, sh.db, "CREATE TABLE "+sh.table+" (id INT PRIMARY KEY, name TEXT NOT NULL)")
	for i := range 20 {
		run(t, sh.db, fmt.Sprintf("INSERT INTO %s VALUES (%d, 'name %d')", sh.table, i, i))
	}
	// Tests share a Redis: the table's name keeps their keys apart.
	schema, err := keys.Parse("keys.yaml", []byte(fmt.Sprintf(`version: 1
keys:
  - {name: item, table: %[1]s, key: "item:%[1]s:{id}", lease: true}
  - {name: tagged, table: %[1]s, key: "tagged:%[1]s:{{t}}:{id}", lease: true, on_untrusted: serve}
  - {name: plain, table: %[1]s, key: "plain:%[1]s:{id}"}
  - {name: other, table: %[1]s, key: "other:%[1]s:{id}", lease: true}
`, sh.table)))
	if err != nil {
		t.Fatal(err)
	}
	sh.schema = schema
	return sh
}

// client returns a client with long time limits: tests of short ones say so.
func (sh *shelf) client(t *testing.T, addr string, change ...func(*Options)) *Client {
	t.Helper()
	o := Options{
		Redis: Redis{Addrs: []string{addr}}, Schema: sh.schema, Source: "shop", DB: sh.db,
		RedisTimeout: 5 * time.Second, Wait: 5 * time.Second,
	}
	for _, f := range change {
		f(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.trust.answer.Store(&trustAnswer{at: time.Now().Add(time.Hour)}) // trust_test.go is about that
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func item(t *testing.T, c *Client, id int) Key {
	t.Helper()
	k, err := c.Key("item", id)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// name is a fill of the item with this id.
func (sh *shelf) name(id int) Fill {
	return func(ctx context.Context, q Querier) ([]byte, error) {
		sh.fills.Add(1)
		var name []byte
		err := q.QueryRowContext(ctx, "SELECT name FROM "+sh.table+" WHERE id = "+strconv.Itoa(id)).Scan(&name)
		return name, err
	}
}

// then is a fill that calls f after it has read.
func then(fill Fill, f func()) Fill {
	return func(ctx context.Context, q Querier) ([]byte, error) {
		b, err := fill(ctx, q)
		f()
		return b, err
	}
}

func rdb(t *testing.T, s *testenv.Server) *redis.Client {
	t.Helper()
	c := testenv.OpenRedis(s)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// expect gets a key and compares.
func expect(t *testing.T, c *Client, key Key, fill Fill, want string) Value {
	t.Helper()
	v, err := c.Get(t.Context(), key, time.Minute, fill)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	if got := string(v.Data); got != want || v.Found != (want != "") {
		t.Errorf("get %s: %q, %v; want %q", key, got, v.Found, want)
	}
	return v
}

// counted compares counters; those that are not named must be zero.
func counted(t *testing.T, c *Client, want map[Event]int64) {
	t.Helper()
	for e, n := range c.Stats() {
		if n != want[e] {
			t.Errorf("%s: %d times, want %d", e, n, want[e])
		}
	}
}
