package cache

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
	"github.com/doubletap-cdc/doubletap/watermark"
)

// TestFillsAvoidServersThatAreOut: a replica that does not apply anything is read
// while invalidators wait for it (its old value goes with the second delete), and
// not once they have said that they no longer do, nor while nobody says anything.
func TestFillsAvoidServersThatAreOut(t *testing.T) {
	for name, start := range map[string]func(testing.TB, ...testenv.MySQLOptions) *testenv.Server{
		"mysql": envtest.MySQL, "mariadb": envtest.MariaDB,
	} {
		t.Run(name, func(t *testing.T) {
			source := start(t, testenv.MySQLOptions{Fast: true})
			sh := newShelfOn(t, source)
			replica := start(t, testenv.MySQLOptions{Fast: true, ReplicaOf: source})
			fills := envtest.DB(t, replica)
			for n := 0; n != 20 && t.Context().Err() == nil; { // until it has the table's rows
				_ = fills.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+sh.table).Scan(&n)
			}
			run(t, fills, map[string]string{"mysql": "STOP REPLICA SQL_THREAD", "mariadb": "STOP SLAVE SQL_THREAD"}[name])
			run(t, sh.db, "UPDATE "+sh.table+" SET name = 'new'")
			redis := envtest.Redis(t)
			raw := rdb(t, redis)
			b := board{t, raw, sh.table}
			c := sh.client(t, redis.Addr, func(o *Options) { o.Source, o.Fills = sh.table, fills })
			say := func(out ...string) {
				t.Helper()
				text, err := json.Marshal(watermark.Trust{Out: out})
				if err != nil {
					t.Fatal(err)
				}
				if err := raw.Set(t.Context(), watermark.TrustKey(b.source, 0), text, time.Minute).Err(); err != nil {
					t.Fatal(err)
				}
			}
			expect(t, c, item(t, c, 1), sh.name(1), "new") // nobody says anything
			b.sets(0, 1, "", "")
			say()
			expect(t, c, item(t, c, 2), sh.name(2), "name 2")
			say("another server")
			expect(t, c, item(t, c, 3), sh.name(3), "name 3")
			var id string
			if err := fills.QueryRowContext(t.Context(), map[string]string{
				"mysql":   "SELECT @@server_uuid",
				"mariadb": "SELECT CONCAT('mariadb-', @@server_id, '-', @@server_uid)",
			}[name]).Scan(&id); err != nil {
				t.Fatal(err)
			}
			say("another server", id)
			expect(t, c, item(t, c, 4), sh.name(4), "new")
			many, err := c.GetMany(t.Context(), []Key{item(t, c, 5), item(t, c, 6)}, time.Minute, sh.names(new([]int)))
			if err != nil || len(many) != 2 || string(many[0].Data) != "new" || string(many[1].Data) != "new" {
				t.Errorf("several at a time: %v, %v", many, err)
			}
			say("*") // one that nobody knows
			expect(t, c, item(t, c, 7), sh.name(7), "new")
			if got := c.Stats()[Diverted]; got != 5 {
				t.Errorf("%d loads were diverted, want 5", got)
			}
		})
	}
}
