package main_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestRowsThatAreGone: of a row that no longer exists some keys cannot be known.
// The command says so where it says what it did.
func TestRowsThatAreGone(t *testing.T) {
	r := newRig(t)
	r.db = envtest.Database(t, r.source)
	db := envtest.DB(t, r.source)
	envtest.Exec(t, db, "CREATE TABLE "+r.db+".item (id INT PRIMARY KEY, sku VARCHAR(20) COLLATE utf8mb4_bin)", "INSERT INTO "+r.db+".item VALUES (1, 's1')")
	r.write("keys.yaml", fmt.Sprintf("version: 1\nkeys:\n  - {name: item, table: '%s.item', key: 'item:{id}'}\n  - {name: sku, table: '%[1]s.item', key: 'sku:{sku}'}\n", r.db))
	for _, c := range []struct {
		list string
		gone int64
	}{{"1\n7\n8\n", 2}, {"1\n", 0}} {
		p := r.start(c.list, "keys", "-config", r.config, "-table", r.db+".item", "-state", filepath.Join(t.TempDir(), "state"), "-yes")
		p.want(0)
		var s struct {
			Gone *int64 `json:"rows_gone"`
		}
		if err := json.Unmarshal(p.out.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		says := fmt.Sprintf("2 of the rows asked for no longer exist. Some of their keys hold other columns than the primary key, cannot be known and may still be cached: replay table -table %s.item -whole deletes them", r.db)
		if (s.Gone != nil) != (c.gone > 0) || s.Gone != nil && *s.Gone != c.gone || strings.Contains(p.Log(), says) != (c.gone > 0) {
			t.Errorf("%q: %s\n%s", c.list, &p.out, p.Log())
		}
	}
}
