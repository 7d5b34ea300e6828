package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"golang.org/x/sync/errgroup"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/commands"
)

// world is the servers, the commands and the caches.
type world struct {
	say   func(format string, args ...any)
	fill  time.Duration // second_delete.fill: the bound on plain fills
	keys  int
	kafka bool
	// outage is the longest time that a replica stands still.
	outage time.Duration

	env                 *testenv.Env
	dir                 string // commands, configuration, the embedded log
	source, replica     *testenv.Server
	server              *testenv.Server // Redis
	broker              *testenv.Server // nil with the embedded log
	sourceDB, replicaDB *sql.DB
	redis               *redis.Client

	ledger  *ledger
	caches  []*cache
	foreign *foreign
	pipe    *pipe
	leasing *leases // nil where the cache client is not raced
	closers []func() error

	xids    atomic.Int64
	kills   atomic.Int64
	mu      sync.Mutex
	freezes []freezing // of Redis, those that have ended, in order
}

// open starts everything, and leaves every row at version 0 and every cache
// empty.
func open(ctx context.Context, w *world, caches []string) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.dir, err = os.MkdirTemp("", "doubletap-races-"); err != nil {
		return err
	}
	var g errgroup.Group
	g.Go(func() error { return commands.Build(ctx, w.dir) })
	g.Go(func() error { return w.startServers(ctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := w.makeTable(ctx); err != nil {
		return err
	}
	w.ledger = newLedger(w.keys, len(caches))
	return w.startCaches(ctx, caches)
}

func (w *world) startServers(ctx context.Context) (err error) {
	if w.env == nil {
		mode, _, err := testenv.ModeFromEnv()
		if err != nil {
			return err
		}
		if w.env, err = testenv.Open(ctx, testenv.Options{Mode: mode, Log: func(line string) { w.say("%s", line) }}); err != nil {
			return err
		}
		w.closers = append(w.closers, w.env.Close)
	}
	var g errgroup.Group
	g.Go(func() (err error) {
		w.source, err = w.env.MySQL(ctx, testenv.MySQLOptions{Args: []string{"--plugin-load-add=semisync_source.so"}})
		if err == nil {
			w.replica, err = w.env.MySQL(ctx, testenv.MySQLOptions{ReplicaOf: w.source, Fast: true})
		}
		return err
	})
	g.Go(func() (err error) {
		w.server, err = w.env.Redis(ctx, testenv.RedisOptions{Memory: true})
		return err
	})
	if w.kafka {
		g.Go(func() (err error) {
			w.broker, err = w.env.Kafka(ctx, testenv.KafkaOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	w.closers = append(w.closers, w.source.Close, w.replica.Close, w.server.Close)
	if w.broker != nil {
		w.closers = append(w.closers, w.broker.Close)
	}
	w.say("%s", w.env.Describe())
	return w.connect()
}

func (w *world) connect() (err error) {
	if w.sourceDB, err = testenv.OpenDB(w.source); err != nil {
		return err
	}
	if w.replicaDB, err = testenv.OpenDB(w.replica); err != nil {
		return err
	}
	for _, db := range []*sql.DB{w.sourceDB, w.replicaDB} {
		db.SetMaxOpenConns(128)
		db.SetMaxIdleConns(64)
		w.closers = append(w.closers, db.Close)
	}
	// A frozen Redis is waited for: what a client gave up on could not be counted.
	// It has connections ready: the handshake of a new one would wait as well.
	w.redis = redis.NewClient(&redis.Options{
		Addr: w.server.Addr, PoolSize: 512, MinIdleConns: 64, PoolTimeout: time.Minute, MaxRetries: -1, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	w.closers = append(w.closers, w.redis.Close)
	return nil
}

// makeTable makes the rows, and waits until the replica has them.
func (w *world) makeTable(ctx context.Context) error {
	for _, q := range []string{
		"CREATE DATABASE races",
		"CREATE TABLE races.item (id INT PRIMARY KEY, version INT NOT NULL, text VARCHAR(40) NOT NULL DEFAULT 'what is cached')",
	} {
		if _, err := w.sourceDB.ExecContext(ctx, q); err != nil {
			return wrap("make the table", err)
		}
	}
	for first := 0; first < w.keys; first += 1000 {
		var b strings.Builder
		for id := first; id < min(first+1000, w.keys); id++ {
			fmt.Fprintf(&b, ",(%d,0)", id)
		}
		if _, err := w.sourceDB.ExecContext(ctx, "INSERT INTO races.item (id, version) VALUES "+b.String()[1:]); err != nil {
			return wrap("make the rows", err)
		}
	}
	return w.replicaCaughtUp(ctx)
}

func (w *world) replicaCaughtUp(ctx context.Context) error {
	executed, err := w.executed(ctx)
	if err != nil {
		return err
	}
	var late int
	err = w.replicaDB.QueryRowContext(ctx, "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 60)", executed).Scan(&late)
	if err == nil && late != 0 {
		err = errors.New("it has not caught up after a minute")
	}
	return wrap("wait for the replica", err)
}

func (w *world) executed(ctx context.Context) (set string, err error) {
	err = w.sourceDB.QueryRowContext(ctx, "SELECT @@global.gtid_executed").Scan(&set)
	return set, wrap("read gtid_executed", err)
}

// startCaches starts what the caches need: the pipeline, and the others'
// invalidators.
func (w *world) startCaches(ctx context.Context, caches []string) (err error) {
	executed, err := w.executed(ctx)
	if err != nil {
		return err
	}
	if slices.Contains(caches, plain) || slices.Contains(caches, lease) {
		w.pipe = &pipe{w: w}
		w.closers = append(w.closers, w.pipe.stop)
		if err := w.pipe.start(ctx); err != nil {
			return err
		}
	}
	if slices.Contains(caches, one) || slices.Contains(caches, textbook) {
		if w.foreign, err = startForeign(w, executed); err != nil {
			return err
		}
		w.closers = append(w.closers, func() error { w.foreign.stop(); return nil })
	}
	for i, name := range caches {
		c := &cache{name: name, index: i, w: w}
		c.fill = c.plainFill
		switch name {
		case none:
			c.quiet = func(context.Context, done) error { return nil }
		case one, textbook:
			c.quiet = func(ctx context.Context, d done) error { return w.foreign.quiet(ctx, name, d) }
		case plain:
			c.quiet = w.pipe.quiet
		case lease:
			c.quiet = w.pipe.quiet
			if w.leasing, err = w.leases(c); err != nil {
				return err
			}
			c.fill = w.leasing.fill
		}
		w.caches = append(w.caches, c)
	}
	return nil
}

func (w *world) db(replica bool) *sql.DB {
	if replica {
		return w.replicaDB
	}
	return w.sourceDB
}

func (w *world) close() error {
	var errs []error
	for _, c := range slices.Backward(w.closers) {
		errs = append(errs, c())
	}
	w.closers = nil
	if w.dir != "" {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}

func (w *world) file(name, text string) (string, error) {
	path := filepath.Join(w.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}
