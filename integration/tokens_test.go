package integration

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/cache"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// reader is an application that reads notes of items through the cache client.
type reader struct {
	r *rig
	c *cache.Client
}

func newReader(t *testing.T, r *rig, addr, schema string) *reader {
	t.Helper()
	s, err := keys.Parse("keys.yaml", []byte(schema))
	if err != nil {
		t.Fatal(err)
	}
	c, err := cache.New(cache.Options{
		Redis: cache.Redis{Addrs: []string{addr}}, Schema: s, Source: "shop", DB: r.sql,
		RedisTimeout: 5 * time.Second, // a busy machine is no outage
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &reader{r, c}
}

// read reads the note of item 1 by f, and says which events there were.
func (a *reader) read(t *testing.T, token cache.Seen) (note string, events []cache.Event, v cache.Value) {
	t.Helper()
	key, err := a.c.Key("item", 1)
	if err != nil {
		t.Fatal(err)
	}
	before := a.c.Stats()
	v, err = a.c.GetAfter(t.Context(), token, key, time.Minute, func(ctx context.Context, q cache.Querier) (b []byte, err error) {
		return b, q.QueryRowContext(ctx, "SELECT note FROM item WHERE id = 1").Scan(&b)
	})
	if err != nil {
		t.Fatal(err)
	}
	for e, n := range a.c.Stats() {
		if n > before[e] {
			events = append(events, e)
		}
	}
	return string(v.Data), events, v
}

// TestTokensAndTrust: an application with the cache client beside the real commands.
// It reads what it writes, waits for deletes, and stops using the cache when every
// process of the pipeline is dead.
func TestTokensAndTrust(t *testing.T) {
	for _, c := range []struct {
		name     string
		embedded bool
		start    func(testing.TB, ...testenv.MySQLOptions) *testenv.Server
	}{{"embedded", true, envtest.MySQL}, {"mariadb", true, envtest.MariaDB}, {"kafka", false, envtest.MySQL}} {
		t.Run(c.name, func(t *testing.T) {
			schema := "version: 1\nkeys:\n  - {name: item, table: \"*.item\", key: 'item:{id}', lease: true}\n"
			r := newRig(t, options{embedded: c.embedded, source: c.start(t), keys: schema})
			app := newReader(t, r, envtest.Redis(t).Addr, schema)
			r.exec("INSERT INTO item (id, price, status, note) VALUES (1, 1, 'draft', 'first')")
			if _, how, _ := app.read(t, ""); !slices.Contains(how, cache.Untrusted) {
				t.Errorf("before there is a pipeline: %v", how)
			}
			tailer, others := r.pipeline(2)
			procs := append(others, tailer)
			cached := func() bool {
				note, how, _ := app.read(t, "")
				return note == "first" && slices.Contains(how, cache.Hit)
			}
			eventually(t, 30*time.Second, "the cache is trusted and used", cached)

			writeAndRead(t, r, app, procs[0])

			for _, p := range procs {
				p.Kill()
			}
			dead := time.Now()
			r.exec("UPDATE item SET note = 'unseen' WHERE id = 1")
			eventually(t, 30*time.Second, "the cache is not used any more", func() bool {
				note, how, _ := app.read(t, "")
				return note == "unseen" && slices.Contains(how, cache.Untrusted)
			})
			t.Logf("the cache was used for %v after the death of the pipeline", time.Since(dead).Round(10*time.Millisecond))
			r.pipeline(1)
			eventually(t, 60*time.Second, "the cache is used again", func() bool {
				note, how, _ := app.read(t, "")
				return note == "unseen" && slices.Contains(how, cache.Hit)
			})
		})
	}
}

// writeAndRead writes, reads its own writes, and waits for their deletes.
func writeAndRead(t *testing.T, r *rig, app *reader, invalidator *process) {
	t.Helper()
	const writes = 50
	waits := make([]time.Duration, 0, writes)
	var before cache.Seen
	for i := range writes {
		want := fmt.Sprintf("note %d", i)
		r.exec("UPDATE item SET note = ? WHERE id = 1", want)
		committed := time.Now()
		token, err := cache.Token(t.Context(), r.sql)
		if err != nil {
			t.Fatal(err)
		}
		if note, how, _ := app.read(t, token); note != want {
			t.Errorf("after writing %q it reads %q (%v)", want, note, how)
		}
		if err := app.c.WaitInvalidated(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		waits = append(waits, time.Since(committed))
		note, how, v := app.read(t, token)
		if note != want || slices.Contains(how, cache.Awaited) {
			t.Errorf("after the deletes of %q it reads %q (%v)", want, note, how)
		}
		if before, err = cache.Merge(before, v.Token); err != nil || v.Token == "" {
			t.Errorf("the value's token is %q; %v", v.Token, err)
		}
	}
	slices.Sort(waits)
	t.Logf("from commit to WaitInvalidated: p50 %v, longest %v", waits[writes/2].Round(time.Millisecond), waits[writes-1].Round(time.Millisecond))

	set, err := before.Set()
	if err != nil {
		t.Fatal(err)
	}
	if code, body, err := invalidator.Get(t.Context(), "/wait?timeout=30s&gtid="+url.QueryEscape(set.String())); err != nil || code != http.StatusOK {
		t.Errorf("/wait: %d %s %v", code, body, err)
	}
	if code, body, err := invalidator.Get(t.Context(), "/wait?timeout=10ms&gtid="+url.QueryEscape("00000000-71ca-11e1-9e33-c80aa9429562:1")); err != nil || code != http.StatusGatewayTimeout {
		t.Errorf("/wait for what never comes: %d %s %v", code, body, err)
	}
}
