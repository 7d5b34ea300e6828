package main

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	lookaside "github.com/doubletap-cdc/doubletap/cache"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/testenv"
)

const (
	ttl     = time.Hour
	maxWait = 8 * time.Second // less than a lease lives
)

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
	for i, s := range []*testenv.Server{w.source, w.replica} {
		fills, err := openFills(s)
		if err != nil {
			return nil, err
		}
		w.closers = append(w.closers, fills.Close)
		l.clients[i], err = lookaside.New(lookaside.Options{
			Redis:  lookaside.Redis{Addrs: []string{w.server.Addr}, PoolSize: 128},
			Schema: schema, Source: "races", DB: w.sourceDB, Fills: fills,
			// Where two cores have to do for all the servers an answer may take its time.
			RedisTimeout: 3 * time.Second, MaxLoads: 1000,
			// One that finds another's lease waits until it ends, and so loads nothing
			// that is not stored: every fill that the harness sees open can race.
			Wait: maxWait,
			OnEvent: func(_ string, e lookaside.Event) {
				switch e {
				case lookaside.Stored:
					b.fills.Add(1)
				case lookaside.Revoked:
					b.refused.Add(1)
				case lookaside.Busy:
					b.past.Add(1)
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
	client := l.client(f.replica)
	list, load, err := l.several(client, ids, f)
	if err != nil {
		return err
	}
	_, err = client.GetMany(ctx, list, ttl, load)
	return wrap("read through the cache client", bearable(err))
}

// several returns the keys of some rows, and what fills them.
func (l *leases) several(client *lookaside.Client, ids []int, f fill) ([]lookaside.Key, lookaside.FillMany, error) {
	pad := strings.Repeat("x", f.pad)
	list, idOf := make([]lookaside.Key, len(ids)), map[lookaside.Key]int{}
	for i, id := range ids {
		k, err := client.Key(lease, id)
		if err != nil {
			return nil, nil, err
		}
		list[i], idOf[k] = k, id
	}
	return list, func(ctx context.Context, q lookaside.Querier, missing []lookaside.Key) (map[lookaside.Key][]byte, error) {
		ids := make([]int, len(missing))
		for i, k := range missing {
			ids[i] = idOf[k]
		}
		rows, err := l.load(ctx, q, ids, f)
		values := make(map[lookaside.Key][]byte, len(missing))
		for _, k := range missing {
			values[k] = []byte(strconv.Itoa(int(rows[idOf[k]])) + ":" + pad)
		}
		return values, err
	}, nil
}

// load is what a fill does within the client's snapshot.
func (l *leases) load(ctx context.Context, q lookaside.Querier, ids []int, f fill) (map[int]uint32, error) {
	rows, stored, err := l.c.w.rows(ctx, q, ids)
	if err != nil || !stored {
		return rows, err
	}
	release := l.c.w.ledger.hold(l.c.index, rows)
	defer release()
	f.holds()
	return rows, pause(ctx, f.hold)
}

// bearable drops the errors that an application has to live with while Redis
// stands still.
func bearable(err error) error {
	if errors.Is(err, lookaside.ErrTooManyLoads) {
		return nil
	}
	return err
}
