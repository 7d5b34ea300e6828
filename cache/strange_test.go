package cache

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestStrangeFills: what ends otherwise than it should is an error, promptly, and
// neither cached nor in the way of the next one.
func TestStrangeFills(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	raw := rdb(t, s)
	db := envtest.DB(t, envtest.MySQL(t))
	db.SetMaxOpenConns(1)
	c := sh.client(t, s.Addr, func(o *Options) { o.DB = db })
	key := item(t, c, 6)
	foreign, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	defer cancel()
	for name, fill := range map[string]Fill{
		"exits": func(context.Context, Querier) ([]byte, error) {
			runtime.Goexit()
			return nil, nil
		},
		"leaves rows open": func(_ context.Context, q Querier) ([]byte, error) {
			_, err := q.QueryContext(foreign, "SELECT * FROM "+sh.table) //nolint:rowserrcheck,sqlclosecheck // on purpose
			return []byte("a part"), err
		},
		"leaves a row open": func(_ context.Context, q Querier) ([]byte, error) {
			q.QueryRowContext(foreign, "SELECT * FROM "+sh.table) //nolint:execinquery // on purpose
			return []byte("a part"), nil
		},
		"loses its connection": func(ctx context.Context, q Querier) ([]byte, error) {
			kill(t, sh.db, ctx, q)
			return []byte("a part"), nil
		},
		"finds nothing on a lost connection": func(ctx context.Context, q Querier) ([]byte, error) {
			kill(t, sh.db, ctx, q)
			return nil, ErrNotFound
		},
	} {
		start := time.Now()
		if v, err := c.Get(t.Context(), key, time.Minute, fill); err == nil {
			t.Errorf("a fill that %s: %q, %v", name, v.Data, v.Found)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("a fill that %s took %v", name, took)
		}
		if n := raw.Exists(t.Context(), key.String()).Val(); n != 0 {
			t.Errorf("a fill that %s leaves something in the cache", name)
		}
		expect(t, c, item(t, c, 7), sh.name(7), "name 7")
		raw.Del(t.Context(), item(t, c, 7).String())
	}
	// That there is no row only the fill can say.
	none := func(session) error { return sql.ErrNoRows }
	if e, err := loadFrom(t.Context(), sh.db, none, key, sh.name(6)); !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("no rows of a session: %+v, %v", e, err)
	}
	if e, err := loadFrom(t.Context(), sh.db, nil, key, sh.name(-1)); err != nil || e.kind != negative {
		t.Errorf("no row: %+v, %v", e, err)
	}
}

// kill ends the connection of a fill.
func kill(t *testing.T, db *sql.DB, ctx context.Context, q Querier) {
	var id string
	if err := q.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&id); err != nil {
		t.Error(err)
	}
	if _, err := db.ExecContext(ctx, "KILL "+id); err != nil && !strings.Contains(err.Error(), "1317") {
		t.Error(err)
	}
}
