package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

// replayReport is what a replay of a large table does to live deletes, and how
// fast it is: a line for each log.
type replayReport struct {
	Machine machineInfo    `json:"machine"`
	Rows    int            `json:"rows"`
	Results []replayResult `json:"results"`
}

type replayResult struct {
	Log    string `json:"log"`
	Target string `json:"target"`
	// Before and Beside are live first deletes without the replay and beside it.
	Before        quantiles `json:"live_before_ms"`
	Beside        quantiles `json:"live_beside_ms"`
	Seconds       float64   `json:"seconds"` // from the command's start to its end, both passes
	KeysPerMinute float64   `json:"keys_per_minute"`
	PeakRSS       float64   `json:"peak_rss_mb"`
	HalfRSS       float64   `json:"rss_at_half_mb"` // the largest up to half of the keys
	Left          int       `json:"keys_left"`      // in Redis at the end, by its own count
	// Kills is how often a second replay was killed in the middle; Redone the
	// chunks that it says it did twice, KilledLeft what was left in Redis after it.
	Kills      int `json:"kills"`
	Redone     int `json:"chunks_redone"`
	KilledLeft int `json:"keys_left_after_kills"`
}

const (
	bigTable = `CREATE TABLE shop.big (id BIGINT PRIMARY KEY, category INT NOT NULL, title VARCHAR(40) NOT NULL)`
	bigRule  = `  - name: big
    table: shop.big
    key: "big:{id}"
`
	replayKills = 10
)

// replayMain replays a table of so many rows, whose keys are all in Redis, while
// live transactions go on; and once more, with kills.
func replayMain(ctx context.Context, o options, p *progress, out io.Writer) (err error) {
	w, err := openWorld(ctx, slices.Contains(o.logs, logKafka), p)
	defer func() { err = errors.Join(err, w.close()) }()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(w.dir, "keys.yaml"), []byte(keysYAML+bigRule), 0o600); err != nil {
		return err
	}
	w.say("writing %d rows", o.rows)
	if err := w.fillBig(ctx, o.rows); err != nil {
		return err
	}
	r := &replayReport{Machine: machine(w.env.Describe()), Rows: o.rows}
	for _, log := range o.logs {
		x, err := w.measureReplay(ctx, log, o)
		if err != nil {
			return fmt.Errorf("replay with log %s: %w", log, err)
		}
		r.Results = append(r.Results, x)
	}
	r.Machine.LoadAfter = loadAverage()
	return o.write(out, r)
}

// fillBig makes the table's rows, without the binlog: they are what was there
// before.
func (w *world) fillBig(ctx context.Context, rows int) error {
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	exec := func(q string) error {
		_, err := conn.ExecContext(ctx, q)
		return err
	}
	if err := errors.Join(exec("SET SESSION sql_log_bin = 0"), exec(bigTable), exec("INSERT INTO shop.big VALUES (1, 1, 'a row of a large table')")); err != nil {
		return fmt.Errorf("make the large table: %w", err)
	}
	const step = 500_000
	for have := 1; have < rows; {
		n := min(have, step, rows-have)
		if err := exec(fmt.Sprintf("INSERT INTO shop.big SELECT id + %d, (id + %d) %% 1000, title FROM shop.big WHERE id <= %d", have, have, n)); err != nil {
			return fmt.Errorf("fill the large table: %w", err)
		}
		have += n
	}
	if err := exec("ANALYZE TABLE shop.big"); err != nil {
		return err
	}
	return exec("SET SESSION sql_log_bin = 1")
}

// cacheBig puts the keys of the large table into Redis.
func (w *world) cacheBig(ctx context.Context, rows int) error {
	const many = 10_000
	for first := 1; first <= rows; first += many {
		last := min(first+many-1, rows)
		err := w.cache.Eval(ctx, "for i = ARGV[1], ARGV[2] do redis.call('SET', 'big:' .. string.format('%d', i), 'x') end return 1", nil, first, last).Err()
		if err != nil {
			return fmt.Errorf("fill Redis: %w", err)
		}
	}
	return nil
}

// bigLeft counts the large table's keys in Redis one by one.
func (w *world) bigLeft(ctx context.Context) (n int, err error) {
	it := w.cache.Scan(ctx, 0, "big:*", 10_000).Iterator()
	for it.Next(ctx) {
		n++
	}
	return n, it.Err()
}

func (w *world) measureReplay(ctx context.Context, log string, o options) (x replayResult, err error) {
	x = replayResult{Log: log, Target: "redis"}
	if log == logKafka {
		x.Target = "topic"
	}
	r, err := w.newRun(log, "current", "1s")
	if err != nil {
		return x, err
	}
	g, err := w.startAll(ctx, r)
	defer func() { err = errors.Join(err, g.stop()) }()
	if err != nil {
		return x, err
	}
	w.say("%s: live deletes alone", log)
	if x.Before, err = w.commitLoad(ctx, steady(o.latency)); err != nil {
		return x, err
	}
	w.say("  p50 %.1f ms, p99 %.1f ms; putting %d keys into Redis", x.Before.P50, x.Before.P99, o.rows)
	if err := w.cacheBig(ctx, o.rows); err != nil {
		return x, err
	}
	if err := w.replayBeside(ctx, r, o, &x); err != nil {
		return x, err
	}
	w.say("  %.0f keys a minute; live deletes beside it: p50 %.1f ms, p99 %.1f ms; again, with %d kills", x.KeysPerMinute, x.Beside.P50, x.Beside.P99, replayKills)
	return x, w.replayKilled(ctx, r, o, &x)
}

// replayBeside runs the replay, and the load while it runs.
func (w *world) replayBeside(ctx context.Context, r run, o options, x *replayResult) error {
	before, err := w.cache.DBSize(ctx).Result()
	if err != nil {
		return err
	}
	c, err := w.startReplay(r, fmt.Sprintf("replay-%d", w.runs), o)
	if err != nil {
		return err
	}
	defer c.Kill()
	memory := c.watchMemory(ctx, func() bool {
		left, err := w.cache.DBSize(ctx).Result()
		return err == nil && before-left < int64(o.rows)/2
	})
	if err := w.until(ctx, c, func(size int64) bool { return size < before }); err != nil {
		return err
	}
	if x.Beside, err = w.commitLoad(ctx, steady(o.latency)); err != nil {
		return err
	}
	x.Seconds, err = c.took(ctx)
	if err != nil {
		return err
	}
	x.HalfRSS, x.PeakRSS = memory()
	x.KeysPerMinute = float64(o.rows) / x.Seconds * 60
	x.Left, err = w.bigLeft(ctx)
	return err
}

// replayKilled runs it again and kills it whenever another part of the keys is gone.
func (w *world) replayKilled(ctx context.Context, r run, o options, x *replayResult) error {
	if err := w.cacheBig(ctx, o.rows); err != nil {
		return err
	}
	full, err := w.cache.DBSize(ctx).Result()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("replay-killed-%d", w.runs)
	for x.Kills < replayKills {
		c, err := w.startReplay(r, name, o)
		if err != nil {
			return err
		}
		x.Kills++
		gone := int64(o.rows) * int64(x.Kills) / (replayKills + 2)
		err = w.until(ctx, c, func(size int64) bool { return full-size > gone })
		c.Kill()
		if err != nil {
			return err
		}
	}
	c, err := w.startReplay(r, name, o)
	if err != nil {
		return err
	}
	defer c.Kill()
	if err := c.Wait(ctx); err != nil {
		return err
	}
	s, err := c.summary()
	if err != nil {
		return err
	}
	x.Redone = s.ChunksRedone
	x.KilledLeft, err = w.bigLeft(ctx)
	return err
}

// until waits until the number of keys in Redis is as wanted.
func (w *world) until(ctx context.Context, c *replaying, cond func(size int64) bool) error {
	for {
		size, err := w.cache.DBSize(ctx).Result()
		if err != nil || cond(size) {
			return err
		}
		select {
		case <-c.Ended():
			return c.EndedEarly()
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (r *replayReport) print(out io.Writer) error {
	fmt.Fprintf(out, "A table of %d rows replayed; live load %d commits/s. %s\n\n", r.Rows, commitsPerSecond, r.Machine.Servers)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "log\ttarget\tkeys/min\tlive p50 / p99 ms alone\tbeside it\tp99 ratio\tRSS MB at half / peak\tkeys left\tkills\tchunks redone\tkeys left")
	for _, x := range r.Results {
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.1f / %.1f\t%.1f / %.1f\t%.2f\t%.0f / %.0f\t%d\t%d\t%d\t%d\n", x.Log, x.Target, x.KeysPerMinute,
			x.Before.P50, x.Before.P99, x.Beside.P50, x.Beside.P99, x.Beside.P99/x.Before.P99, x.HalfRSS, x.PeakRSS, x.Left, x.Kills, x.Redone, x.KilledLeft)
	}
	return t.Flush()
}
