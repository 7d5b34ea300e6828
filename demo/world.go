package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/commands"
)

// world is the servers, the shop and the built commands.
type world struct {
	env    *testenv.Env
	dir    string // commands, configuration, the embedded log
	kafka  *testenv.Server
	mysql  *testenv.Server
	server *testenv.Server // Redis
	db     *sql.DB
	cache  *redis.Client
	shop   *shop
}

func openWorld(ctx context.Context, kafka bool, out *screen) (w *world, err error) {
	w = &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.dir, err = os.MkdirTemp("", "doubletap-demo-"); err != nil {
		return w, err
	}
	out.say("building the commands, and starting MySQL and Redis%s; the first time they are downloaded", map[bool]string{true: " and Kafka"}[kafka])
	var g errgroup.Group
	g.Go(func() error {
		err := commands.Build(ctx, w.dir)
		if err == nil {
			out.say("the commands are built")
		}
		return err
	})
	g.Go(func() error { return w.startServers(ctx, kafka, out) })
	if err = g.Wait(); err != nil {
		return w, err
	}
	if w.db, err = testenv.OpenDB(w.mysql); err != nil {
		return w, err
	}
	w.cache = redis.NewClient(&redis.Options{Addr: w.server.Addr, PoolSize: 32})
	w.shop, err = newShop(ctx, w.db, w.cache)
	return w, err
}

func (w *world) startServers(ctx context.Context, kafka bool, out *screen) error {
	mode, _, err := testenv.ModeFromEnv()
	if err != nil {
		return err
	}
	if w.env, err = testenv.Open(ctx, testenv.Options{Mode: mode, Log: func(line string) { out.say("%s", line) }}); err != nil {
		return err
	}
	if w.mysql, err = w.env.MySQL(ctx, testenv.MySQLOptions{Args: []string{"--plugin-load-add=semisync_source.so"}}); err != nil {
		return err
	}
	out.say("MySQL is up")
	if w.server, err = w.env.Redis(ctx, testenv.RedisOptions{}); err != nil {
		return err
	}
	if kafka {
		if w.kafka, err = w.env.Kafka(ctx, testenv.KafkaOptions{}); err != nil {
			return err
		}
	}
	out.say("%s", w.env.Describe())
	return nil
}

func (w *world) close() error {
	var errs []error
	if w.cache != nil {
		errs = append(errs, w.cache.Close())
	}
	if w.db != nil {
		errs = append(errs, w.db.Close())
	}
	if w.env != nil {
		errs = append(errs, w.env.Close())
	}
	if w.dir != "" {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}

// stallCommits makes the next commits wait for a semi-sync replica that is not
// there, for 3 s: a thing that happens to real sources. MySQL sends the
// transactions to the binlog's readers at the start of that time, and shows them
// to others only at its end.
func (w *world) stallCommits(ctx context.Context) error {
	for _, q := range []string{
		fmt.Sprintf("SET GLOBAL rpl_semi_sync_source_timeout = %d", stall/time.Millisecond),
		"SET GLOBAL rpl_semi_sync_source_wait_no_replica = ON",
		"SET GLOBAL rpl_semi_sync_source_enabled = OFF",
		"SET GLOBAL rpl_semi_sync_source_enabled = ON",
	} {
		if _, err := w.db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("stall the commits (%s): %w", q, err)
		}
	}
	return nil
}
