package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/commands"
)

// world is the servers and the built commands.
type world struct {
	env   *testenv.Env
	dir   string // commands, configurations, embedded logs
	mysql *testenv.Server
	redis *testenv.Server
	kafka *testenv.Server // nil: not needed
	db    *sql.DB
	cache *redis.Client
	say   func(format string, args ...any)
	runs  int // numbers the topics and folders
}

const keysYAML = `version: 1
keys:
  - name: item
    table: shop.item
    key: "item:{id}"
  - name: category-items
    table: shop.item
    key: "category:{category}:items"
    columns: [category]
`

const createTable = `CREATE TABLE shop.item (
	id BIGINT PRIMARY KEY,
	category INT NOT NULL,
	sku VARCHAR(32) NOT NULL,
	status ENUM('draft', 'on_sale', 'sold_out') NOT NULL,
	price DECIMAL(10,2) NOT NULL,
	stock INT NOT NULL,
	updated DATETIME(6) NOT NULL,
	title VARCHAR(100) NOT NULL,
	description VARCHAR(200) NOT NULL
)`

// openWorld starts the servers. MySQL does not sync its commits, so that the
// disk is not what is measured. The result must be closed, also after an error.
func openWorld(ctx context.Context, kafka bool, p *progress) (w *world, err error) {
	w = &world{say: p.say}
	mode, _, err := testenv.ModeFromEnv()
	if err != nil {
		return w, err
	}
	if w.dir, err = os.MkdirTemp("", "doubletap-bench-"); err != nil {
		return w, err
	}
	w.say("starting the servers; the first time they are downloaded")
	if w.env, err = testenv.Open(ctx, testenv.Options{Mode: mode, Log: func(line string) { w.say("%s", line) }}); err != nil {
		return w, err
	}
	if w.mysql, err = w.env.MySQL(ctx, testenv.MySQLOptions{Fast: true}); err != nil {
		return w, err
	}
	if w.redis, err = w.env.Redis(ctx, testenv.RedisOptions{Memory: true}); err != nil {
		return w, err
	}
	if kafka {
		if w.kafka, err = w.env.Kafka(ctx, testenv.KafkaOptions{JVM: []string{"-XX:TieredStopAtLevel=4"}}); err != nil {
			return w, err
		}
	}
	w.say("building the commands")
	if err := commands.BuildRelease(ctx, w.dir); err != nil {
		return w, err
	}
	if err := os.WriteFile(filepath.Join(w.dir, "keys.yaml"), []byte(keysYAML), 0o600); err != nil {
		return w, err
	}
	if w.db, err = testenv.OpenDB(w.mysql); err != nil {
		return w, err
	}
	w.cache = redis.NewClient(&redis.Options{Addr: w.redis.Addr, PoolSize: 2 * writers})
	for _, q := range []string{"CREATE DATABASE shop", createTable} {
		if _, err := w.db.ExecContext(ctx, q); err != nil {
			return w, fmt.Errorf("make the table: %w", err)
		}
	}
	return w, nil
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

// executed is the source's GTID set.
func (w *world) executed(ctx context.Context) (set string, err error) {
	err = w.db.QueryRowContext(ctx, "SELECT REPLACE(@@global.gtid_executed, '\n', '')").Scan(&set)
	return set, err
}

// binlogBytes is the size of all binlog files.
func (w *world) binlogBytes(ctx context.Context) (total int64, err error) {
	rows, err := w.db.QueryContext(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var name, encrypted string
		var size int64
		if err := rows.Scan(&name, &size, &encrypted); err != nil {
			return 0, err
		}
		total += size
	}
	return total, rows.Err()
}

// run is one configuration: a log of its own, and where the source is begun at.
type run struct {
	file string
	log  string
}

const partitions = 8

// newRun writes the configuration of a fresh log.
func (w *world) newRun(log, start, fill string) (run, error) {
	return w.newRunWith(log, fmt.Sprintf("user: root, start: %q", start), "fill: "+fill)
}

// newRunWith is newRun with fields of source and second_delete.
func (w *world) newRunWith(log, source, second string) (run, error) {
	w.runs++
	section := fmt.Sprintf("embedded: {dir: ./log-%d}", w.runs)
	if log == logKafka {
		section = fmt.Sprintf("kafka: {brokers: [%q], topic: bench-%d, partitions: %d}", w.kafka.Addr, w.runs, partitions)
	}
	r := run{file: filepath.Join(w.dir, fmt.Sprintf("run-%d.yaml", w.runs)), log: log}
	text := fmt.Sprintf(`source: {name: shop, addr: %q, %s}
log: {%s}
redis: {addrs: [%q]}
keys: keys.yaml
second_delete: {%s}
`, w.mysql.Addr, source, section, w.redis.Addr, second)
	return r, os.WriteFile(r.file, []byte(text), 0o600)
}
