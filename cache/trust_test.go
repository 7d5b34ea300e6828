package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
	"github.com/doubletap-cdc/doubletap/watermark"
)

// board posts watermarks as invalidators do.
type board struct {
	t      *testing.T
	raw    *redis.Client
	source string
}

// sets posts how far the passes over one partition are.
func (b board) sets(partition, partitions int, first, second string) {
	b.t.Helper()
	text, err := json.Marshal(watermark.Sets{Partitions: partitions, First: first, Second: second})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.raw.HSet(b.t.Context(), watermark.SetsKey(b.source), fmt.Sprint(partition), text).Err(); err != nil {
		b.t.Error(err)
	}
}

// trust vouches for one partition's keys, but for those of some rules.
func (b board) trust(partition int, ttl time.Duration, untrusted ...string) {
	b.t.Helper()
	text, err := json.Marshal(watermark.Trust{Untrusted: untrusted})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.raw.Set(b.t.Context(), watermark.TrustKey(b.source, partition), text, ttl).Err(); err != nil {
		b.t.Error(err)
	}
}

// doubter is a client of a schema with a rule for each way of taking it.
func doubter(t *testing.T, sh *shelf, addr, source string) *Client {
	t.Helper()
	schema, err := keys.Parse("keys.yaml", []byte(strings.ReplaceAll(`version: 1
keys:
  - {name: bypass, table: TABLE, key: "bypass:TABLE:{id}", lease: true}
  - {name: serve, table: TABLE, key: "serve:TABLE:{id}", lease: true, on_untrusted: serve}
  - {name: error, table: TABLE, key: "error:TABLE:{id}", lease: true, on_untrusted: error}
`, "TABLE", sh.table)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{Redis: Redis{Addrs: []string{addr}}, Schema: schema, Source: source, DB: sh.db, RedisTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// takes gets a key of each rule, and says which were served through the cache.
func takes(t *testing.T, c *Client, sh *shelf) map[string]bool {
	t.Helper()
	served := map[string]bool{}
	for _, rule := range []string{"bypass", "serve", "error"} {
		key, err := c.Key(rule, 7)
		if err != nil {
			t.Fatal(err)
		}
		before := c.Stats()[Untrusted]
		v, err := c.Get(t.Context(), key, time.Minute, sh.name(7))
		refused := errors.Is(err, ErrUntrusted)
		if err != nil && (!refused || rule != "error") || err == nil && string(v.Data) != "name 7" {
			t.Errorf("%s: %q, %v", rule, v.Data, err)
		}
		served[rule] = !refused && c.Stats()[Untrusted] == before
		set := tokenOf(t, v)
		after, err := c.GetAfter(t.Context(), set, key, time.Minute, sh.name(7))
		if refused != errors.Is(err, ErrUntrusted) || !refused && (err != nil || string(after.Data) != "name 7") {
			t.Errorf("%s: GetAfter: %q, %v", rule, after.Data, err)
		}
		several, err := getters["many"](c, t.Context(), set, key, time.Minute, sh.name(7))
		if refused != errors.Is(err, ErrUntrusted) || !refused && (err != nil || string(several.Data) != "name 7") {
			t.Errorf("%s: GetManyAfter: %q, %v", rule, several.Data, err)
		}
	}
	return served
}

func tokenOf(t *testing.T, v Value) Seen {
	t.Helper()
	if v.Token == "" {
		return seen(t, serverA+":1") // of a call that was refused
	}
	return v.Token
}

func TestTrust(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	b := board{t, rdb(t, s), sh.table}
	c := doubter(t, sh, s.Addr, b.source)
	now := func(what string, bypass, refuse bool) {
		t.Helper()
		c.trust.answer.Store(nil) // a process that begins
		c.trust.mu.Lock()
		c.trust.tried = time.Time{}
		c.trust.mu.Unlock()
		if got := takes(t, c, sh); got["bypass"] != bypass || got["error"] != refuse || !got["serve"] {
			t.Errorf("%s: through the cache go %v", what, got)
		}
	}
	now("nobody has posted anything", false, false)
	b.sets(0, 2, "", "")
	b.trust(0, time.Minute)
	now("nobody vouches for partition 1", false, false)
	b.trust(1, time.Minute)
	now("all is well", true, true)
	b.trust(1, time.Minute, "bypass")
	now("one rule is late", false, true)
	b.trust(1, time.Minute, "*")
	now("all rules are late", false, false)
	b.trust(1, time.Minute)
	b.sets(0, 3, "", "")
	now("nobody vouches for a new partition", false, false)
	b.sets(0, 2, "", "")
	now("all is well again", true, true)
	b.raw.Set(t.Context(), watermark.TrustKey(b.source, 1), "no JSON", time.Minute)
	now("what is not understood is not trusted", false, false)
}

// TestTrustExpires: nobody says that the invalidators have died; within a second or
// so of the end of what they said last, the cache is not used.
func TestTrustExpires(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	b := board{t, rdb(t, s), sh.table}
	c := doubter(t, sh, s.Addr, b.source)
	b.sets(0, 1, "", "")
	b.trust(0, 500*time.Millisecond)
	start := time.Now()
	key, err := c.Key("bypass", 7)
	if err != nil {
		t.Fatal(err)
	}
	trusted := func() bool {
		before := c.Stats()[Untrusted]
		expect(t, c, key, sh.name(7), "name 7")
		return c.Stats()[Untrusted] == before
	}
	if !trusted() {
		t.Fatal("not trusted")
	}
	for trusted() && t.Context().Err() == nil { //nolint:revive // each call looks
	}
	if took := time.Since(start); took < 500*time.Millisecond || took > 500*time.Millisecond+2*trustEvery {
		t.Errorf("the cache was used for %v", took)
	}
	b.trust(0, time.Minute)
	for !takes(t, c, sh)["bypass"] && t.Context().Err() == nil { //nolint:revive // each call looks
	}
	if took := time.Since(start); took > 500*time.Millisecond+4*trustEvery {
		t.Errorf("it was not used again for %v", took)
	}
}

// TestTrustAsksSeldom: however many calls there are, and none waits while there is
// an answer.
func TestTrustAsksSeldom(t *testing.T) {
	s, sh := envtest.Redis(t, testenv.RedisOptions{}), newShelf(t)
	b := board{t, rdb(t, s), sh.table}
	c := doubter(t, sh, s.Addr, b.source)
	b.sets(0, 1, "", "")
	b.trust(0, time.Minute)
	key, err := c.Key("bypass", 7)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for time.Since(start) < 1500*time.Millisecond {
				if _, err := c.Get(t.Context(), key, time.Minute, sh.name(7)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	asked := strings.Count(b.raw.Info(t.Context(), "commandstats").Val(), "cmdstat_mget:calls=2,")
	if n := c.Stats(); asked != 1 || n[Untrusted] != 0 {
		t.Errorf("in 1.5 s it did not ask twice, or bypassed: %v\n%s", n, b.raw.Info(t.Context(), "commandstats").Val())
	}
}
