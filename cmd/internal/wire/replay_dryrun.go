package wire

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/deleter"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/progress"
)

// dryRun counts what would be deleted.
func (r *replaying) dryRun(ctx context.Context) error {
	const name = "doubletap-replay-"
	dir, err := os.MkdirTemp("", name)
	if err != nil { // an image without a folder for temporary files
		dir, err = os.MkdirTemp(filepath.Dir(r.args.State), name)
	}
	if err != nil {
		return fmt.Errorf("make a folder for the dry run: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if r.args.Verb == verbKeys {
		if err := r.copyList(dir); err != nil {
			return err
		}
	}
	job, err := r.plan(ctx, dir)
	if err != nil {
		return err
	}
	source, err := r.sources.open(ctx, job.Kind, job.Fixed)
	if err != nil {
		return err
	}
	rate := float64(r.args.Rate)
	if rate <= 0 {
		rate = replay.UsualMax
	}
	pace := r.readingPace()
	load, done, err := r.app.newLoad(r.redis)
	if err != nil {
		return err
	}
	defer done()
	pace.Load = load
	var unseen error // why the sample could not be looked for
	cached := func(ctx context.Context, names []string) (n int, err error) {
		if n, err = r.cached(ctx, names); deleter.Forbidden(err) {
			unseen, err = err, nil // it is a detail: the rest is counted
		}
		return n, err
	}
	count := &replay.Count{
		Source: source, Schema: r.app.Schema, Old: r.old, SweepOld: r.sweepOld(), Dir: dir, Rate: rate, Cached: cached, Pace: pace, Progress: r.display.Show,
	}
	began := time.Now()
	c, err := count.Do(ctx)
	r.display.End()
	if err != nil {
		return err
	}
	if unseen != nil {
		c.Sampled, c.Cached, c.Misses, c.MissesPerSecond = 0, 0, 0, 0
		r.say("how many of the keys are in Redis is not known: %v: the user needs +exists on them", unseen)
	}
	r.sayCounted(c, rate, time.Since(began))
	return r.writeSummary(struct {
		Kind   string   `json:"kind"`
		What   []string `json:"what,omitempty"`
		Result string   `json:"result"`
		replay.Counted
	}{job.Kind, job.What, "dry run", c})
}

// cached counts how many keys are in Redis.
func (r *replaying) cached(ctx context.Context, names []string) (n int, err error) {
	c, err := r.redis.Conn(ctx)
	if err != nil {
		return 0, err
	}
	const trip = 500
	for from := 0; from < len(names); from += trip {
		pipe := c.Pipeline()
		var all []*redis.IntCmd
		for _, name := range names[from:min(from+trip, len(names))] {
			all = append(all, pipe.Exists(ctx, name))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return 0, fmt.Errorf("look which keys are in Redis: %w", err)
		}
		for _, one := range all {
			n += int(one.Val())
		}
	}
	return n, nil
}

// tell says a sentence, on a terminal in lines that fit.
func (r *replaying) tell(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if width := r.display.Width(); width > 0 {
		text = strings.Join(wrap(text, width-1), "\n")
	}
	r.say("%s", text)
}

func (r *replaying) sayCounted(c replay.Counted, rate float64, took time.Duration) {
	r.say("\n%s distinct keys of %s rows would be deleted:\n", progress.Number(c.Keys), progress.Number(c.Rows))
	for _, rule := range c.Rules {
		if rule.Keys > 0 {
			r.say("  %12s  by rule %s", progress.Number(rule.Keys), rule.Rule)
		}
	}
	if c.Listed > 0 {
		r.say("  %12s  named as such", progress.Number(c.Listed))
	}
	if c.OldKeys > 0 {
		r.say("  %12s  by the old schema only", progress.Number(c.OldKeys))
	}
	for _, p := range c.Patterns {
		r.say("  and every key like %s: %s", p.Pattern, p.Reason)
	}
	if c.Sampled > 0 {
		r.say("")
		r.tell("%s of %s sampled keys are in Redis now: about %s reads of the database more, %s a second while the replay runs.",
			progress.Number(int64(c.Cached)), progress.Number(int64(c.Sampled)), progress.Number(c.Misses), progress.Number(int64(c.MissesPerSecond)))
	}
	seconds := time.Duration(c.Seconds * float64(time.Second)).Round(time.Second)
	r.tell("At %s keys/s a replay takes %v or more, and then the second deletes; reading took %v in this dry run.",
		progress.Number(int64(rate)), max(seconds, time.Second), took.Round(100*time.Millisecond))
}
