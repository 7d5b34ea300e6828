package main

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	lookaside "github.com/doubletap-cdc/doubletap/cache"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/testenv"
)

const ttl = time.Hour

// leases are two applications that read through the cache client: one fills from
// the source, one from the replica.
type leases struct {
	c       *cache
	clients [2]*lookaside.Client
}

func (w *world) leases(c *cache) (*leases, error) {
	schema, err := keys.Parse("keys.yaml", []byte(keysYAML))
	if err != nil {
		return nil, err
	}
	l := &leases{c: c}
	b := w.ledger.books[c.index]
	for i, s := range []*testenv.Server{w.mysql, w.slave} {
		fills, err := openFills(s)
		if err != nil {
			return nil, err
		}
		w.closers = append(w.closers, fills.Close)
		l.clients[i], err = lookaside.New(lookaside.Options{
			Redis:  lookaside.Redis{Addrs: []string{w.server.Addr}, PoolSize: 128},
			Schema: schema, Source: "races", DB: w.primary, Fills: fills,
			// Two cores for all the servers: an answer may take its time.
			RedisTimeout: time.Second, MaxLoads: 1000,
			OnEvent: func(_ string, e lookaside.Event) {
				switch e {
				case lookaside.Stored:
					b.fills.Add(1)
				case lookaside.Revoked:
					b.refused.Add(1)
				}
			},
		})
		if err != nil {
			return nil, err
		}
		w.closers = append(w.closers, l.clients[i].Close)
	}
	return l, nil
}

// openFills returns connections that say in their session that they are for
// fills which are stored. What the client loads past the cache it reads from
// others: that is no race.
func openFills(s *testenv.Server) (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.Params = "tcp", s.Addr, "root", map[string]string{"@fills": "1"}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(120)
	db.SetMaxIdleConns(60)
	return db, nil
}

func (l *leases) client(replica bool) *lookaside.Client {
	if replica {
		return l.clients[1]
	}
	return l.clients[0]
}

// fill reads keys as an application with our client does.
func (l *leases) fill(ctx context.Context, ids []int, f fill) error {
	client, pad := l.client(f.replica), strings.Repeat("x", f.pad)
	var g errgroup.Group
	for _, id := range ids {
		k, err := client.Key(lease, id)
		if err != nil {
			return err
		}
		g.Go(func() error {
			_, err := client.Get(ctx, k, ttl, func(ctx context.Context, q lookaside.Querier) ([]byte, error) {
				rows, err := l.load(ctx, q, []int{id}, f.hold)
				if err != nil {
					return nil, err
				}
				return []byte(strconv.Itoa(int(rows[id])) + ":" + pad), nil
			})
			return bearable(err)
		})
	}
	return wrap("read through the cache client", g.Wait())
}

// load is what a fill does within the client's snapshot.
func (l *leases) load(ctx context.Context, q lookaside.Querier, ids []int, hold time.Duration) (map[int]uint32, error) {
	var stored sql.NullInt64
	if err := q.QueryRowContext(ctx, "SELECT @fills").Scan(&stored); err != nil {
		return nil, err
	}
	rows, err := l.c.w.rows(ctx, q, ids)
	if err != nil || !stored.Valid {
		return rows, err
	}
	release := l.c.w.ledger.hold(l.c.index, rows)
	defer release()
	return rows, pause(ctx, hold)
}

// bearable drops the errors that an application has to live with while Redis
// stands still.
func bearable(err error) error {
	if errors.Is(err, lookaside.ErrTooManyLoads) {
		return nil
	}
	return err
}
