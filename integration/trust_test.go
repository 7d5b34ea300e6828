package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/cache"
	"github.com/doubletap-cdc/doubletap/keys"
)

// client is a cache client of the rig's servers, whose events are kept.
type client struct {
	*cache.Client
	r    *rig
	mu   sync.Mutex
	what []cache.Event
}

func (r *rig) client() *client {
	r.t.Helper()
	schema, err := keys.Parse("keys.yaml", []byte(r.o.keys))
	if err != nil {
		r.t.Fatal(err)
	}
	c := &client{r: r}
	c.Client, err = cache.New(cache.Options{
		Redis: cache.Redis{Addrs: r.o.monitors}, Schema: schema, Source: "shop", DB: r.sql,
		OnEvent: func(_ string, e cache.Event) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.what = append(c.what, e)
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// sku reads an item's sku through the cache, and says what happened on the way.
func (c *client) sku(ctx context.Context, id int, after cache.Seen) (sku string, what []cache.Event) {
	c.r.t.Helper()
	key, err := c.Key("item", id)
	if err != nil {
		c.r.t.Fatal(err)
	}
	c.mu.Lock()
	c.what = nil
	c.mu.Unlock()
	v, err := c.GetAfter(ctx, after, key, time.Hour, func(ctx context.Context, q cache.Querier) (data []byte, err error) {
		err = q.QueryRowContext(ctx, "SELECT sku FROM "+c.r.db+".item WHERE id = ?", id).Scan(&data)
		return data, err
	})
	if err != nil {
		c.r.t.Fatalf("get item %d: %v", id, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(v.Data), slices.Clone(c.what)
}

// TestTrustEndsWithThePipeline reads through the cache client while every process of the pipeline is killed and started
// again. While the pipeline lives, a user reads his own writes and hits are served; soon after its death nothing is
// served from the cache any more; and what is served when it is back is current.
func TestTrustEndsWithThePipeline(t *testing.T) {
	for _, embedded := range []bool{false, true} {
		t.Run(map[bool]string{false: "kafka", true: "embedded"}[embedded], func(t *testing.T) { testTrust(t, embedded) })
	}
}

func testTrust(t *testing.T, embedded bool) {
	ctx := t.Context()
	o := options{embedded: embedded}
	r := newRig(t, o)
	r.o.keys = fmt.Sprintf("version: 1\nkeys:\n  - {name: item, table: %s.item, key: \"item:{id}\", lease: true}\n", r.db)
	r.write("keys.yaml", r.o.keys)
	c := r.client()
	version := 0
	write := func() (string, cache.Seen) {
		t.Helper()
		version++
		sku := fmt.Sprintf("v%d", version)
		r.exec("REPLACE INTO item VALUES (1, 1, ?, 5, 'draft', NULL)", sku)
		token, err := cache.Token(ctx, r.sql)
		if err != nil {
			t.Fatal(err)
		}
		return sku, token
	}
	served := func() bool { // from the cache, or filled into it
		want, token := write()
		sku, what := c.sku(ctx, 1, token)
		if sku != want {
			t.Fatalf("read %q after writing %q (%v)", sku, want, what)
		}
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if err := c.WaitInvalidated(short, token); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return false
			}
			t.Fatal(err)
		}
		sku, what = c.sku(ctx, 1, token)
		if sku != want {
			t.Fatalf("read %q after waiting for %q (%v)", sku, want, what)
		}
		_, what = c.sku(ctx, 1, "")
		return slices.Contains(what, cache.Hit)
	}

	first, others := r.pipeline(2)
	eventually(t, stalled, "trust in a pipeline that works", served)
	for range pick(2, 20) {
		for _, p := range append(others, first) {
			p.Kill()
		}
		want, _ := write() // nobody deletes anything now
		eventually(t, 20*time.Second, "the end of trust in a dead pipeline", func() bool {
			sku, what := c.sku(ctx, 1, "")
			untrusted := slices.Contains(what, cache.Untrusted)
			if untrusted && sku != want {
				t.Fatalf("past the cache came %q, want %q", sku, want)
			}
			return untrusted
		})
		first = r.again(first)
		for i := range others {
			others[i] = r.again(others[i])
		}
		eventually(t, stalled, "trust in a pipeline that was started again", func() bool {
			sku, what := c.sku(ctx, 1, "")
			if sku != want {
				t.Fatalf("read %q, want %q (%v)", sku, want, what)
			}
			return !slices.Contains(what, cache.Untrusted)
		})
		eventually(t, stalled, "reads of one's own writes from the cache again", served)
	}
}
