package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestSchemaFix is the story of docs/replay.md: a wrong template is live for a
// while, is mended and rolled out, and what went wrong meanwhile is replayed from
// the binlog.
func TestSchemaFix(t *testing.T) {
	for _, embedded := range []bool{false, true} {
		t.Run(fmt.Sprintf("embedded=%t", embedded), func(t *testing.T) {
			const items = 60
			// Applications cache a price as price:{id}; the schema says otherwise.
			wrong := "version: 1\nkeys:\n  - {name: price, table: \"*.item\", key: 'price:{sku}'}\n  - {name: marker, table: \"*.marker\", key: 'marker:{id}'}\n"
			right := "version: 1\nkeys:\n  - {name: price, table: \"*.item\", key: 'price:{id}'}\n  - {name: marker, table: \"*.marker\", key: 'marker:{id}'}\n"
			r := &replayRig{rig: newRig(t, options{embedded: embedded, keys: wrong, fill: 200 * time.Millisecond}), running: true}
			command(t, "replay")
			cached := testenv.OpenRedis(envtest.Redis(t))
			defer cached.Close()
			for id := 1; id <= items; id++ {
				r.exec("INSERT INTO item (id, sku, price, status) VALUES (?, ?, ?, 'draft')", id, fmt.Sprintf("sku-%d", id), id)
			}
			tailer, others := r.pipeline(2)
			r.settle()
			r.fillPrices(t, cached, items)
			from := r.moment()

			r.exec("UPDATE item SET price = price + 100 WHERE id % 2 = 0")
			r.settle()
			if n := r.stalePrices(t, cached, items); n != items/2 {
				t.Fatalf("%d stale prices under the wrong schema, want %d", n, items/2)
			}

			old := r.write("keys.old.yaml", wrong)
			r.write("keys.yaml", right)
			r.secondPassDone(t, append(others, tailer)[0]) // what it had not done yet would be done under the right schema
			for _, p := range append(others, tailer) {
				p.stop()
			}
			r.pipeline(2)
			r.exec("UPDATE item SET price = price + 1000 WHERE id = 1")
			r.settle()
			if n := r.stalePrices(t, cached, items); n != items/2 {
				t.Fatalf("%d stale prices after the roll-out, want %d: it mends only what changes from now on", n, items/2)
			}

			// An old reader's keys go too.
			if err := cached.Set(t.Context(), "price:sku-2", "an old reader's", 0).Err(); err != nil {
				t.Fatal(err)
			}
			_, text := r.replay(t, "", "binlog", "-since", from.at, "-old-keys", old)
			if n := r.stalePrices(t, cached, items); n != 0 {
				t.Errorf("%d stale prices after the replay\n%s", n, text)
			}
			if n := cached.Exists(t.Context(), "price:sku-2").Val(); n != 0 {
				t.Error("a key of the old schema is still there")
			}
			if n := cached.Exists(t.Context(), "price:3").Val(); n != 1 {
				t.Error("the price of an item that did not change is gone")
			}
		})
	}
}

// secondPassDone waits until the second pass is past all that was committed.
func (r *replayRig) secondPassDone(t *testing.T, invalidator *process) {
	t.Helper()
	query := url.Values{"gtid": {r.moment().gtid}, "pass": {"second"}, "timeout": {"30s"}}
	resp, err := http.Get("http://" + invalidator.Admin + "/wait?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("/wait answered %s", resp.Status)
	}
}

func (r *replayRig) fillPrices(t *testing.T, c *redis.Client, items int) {
	t.Helper()
	for id := 1; id <= items; id++ {
		if err := c.Set(t.Context(), fmt.Sprintf("price:%d", id), r.price(t, id), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *replayRig) price(t *testing.T, id int) (price string) {
	t.Helper()
	if err := r.sql.QueryRowContext(t.Context(), "SELECT price FROM item WHERE id = ?", id).Scan(&price); err != nil {
		t.Fatal(err)
	}
	return price
}

func (r *replayRig) stalePrices(t *testing.T, c *redis.Client, items int) (stale int) {
	t.Helper()
	for id := 1; id <= items; id++ {
		v, err := c.Get(t.Context(), fmt.Sprintf("price:%d", id)).Result()
		switch {
		case err == redis.Nil:
		case err != nil:
			t.Fatal(err)
		case v != r.price(t, id):
			stale++
		}
	}
	return stale
}
