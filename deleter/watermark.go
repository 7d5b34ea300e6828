package deleter

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/watermark"
)

var _ pipeline.Watermarks = (*Redis)(nil)

// once is a command that go-redis must not send again after an unknown outcome: a
// late copy of what begins a turn would make one go on that is over. It follows
// MOVED and ASK all the same, which say that the command has not run.
type once struct{ *redis.Cmd }

// NoRetry implements redis.Cmder.
func (once) NoRetry() bool { return true }

func (r *Redis) once(ctx context.Context, c redis.UniversalClient, args ...any) (*redis.Cmd, error) {
	return call(ctx, r, func(ctx context.Context) (*redis.Cmd, error) {
		cmd := once{redis.NewCmd(ctx, args...)}
		return cmd.Cmd, c.Process(ctx, cmd)
	})
}

// Turn implements pipeline.Watermarks. A turn is a random value in a key that
// expires. Turn returns as soon as ctx ends; what was sent by then may still be
// carried out, and then it ends a turn that somebody else has begun.
func (r *Redis) Turn(ctx context.Context, source string, partition int, d time.Duration) (pipeline.Turn, error) {
	c, err := r.client(ctx)
	if err != nil {
		return "", err
	}
	turn := rand.Text()
	ms := max(d, time.Millisecond).Milliseconds()
	if _, err := r.once(ctx, c, "set", watermark.TurnKey(source, partition), turn, "px", ms); err != nil {
		r.lookAgain(ctx, c)
		return "", fmt.Errorf("begin to post the watermark of %s, partition %d: %w", source, partition, explain(err))
	}
	return pipeline.Turn(turn), nil
}

// postScript: KEYS: turn, sets, trust; ARGV: turn, partition, sets, trust. It is
// sent in full each time, so that nothing has to be loaded after a restart or a
// failover. Trust gets what is left of the turn's time, and so ends when it would
// have ended had the post run at once. A turn that was used keeps its key: while a
// Cluster moves the slot, a script runs only where it finds all its keys.
const postScript = `local left = redis.call('PTTL', KEYS[1])
if left < 1 or redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('SET', KEYS[3], ARGV[4], 'PX', left)
redis.call('SET', KEYS[1], 'over', 'PX', left)
return 1`

// Post implements pipeline.Watermarks. Post returns as soon as ctx ends; what was
// sent by then may still be carried out, as long as the turn lasts. The three keys
// are of one slot. While some of them are on another node, because a Cluster
// moves it, posts fail with TRYAGAIN.
func (r *Redis) Post(ctx context.Context, turn pipeline.Turn, w pipeline.Watermark) error {
	c, err := r.client(ctx)
	if err != nil {
		return err
	}
	sets, err := json.Marshal(watermark.Sets{Partitions: w.Partitions, First: w.First, Second: w.Second})
	if err != nil {
		return err
	}
	trust, err := json.Marshal(watermark.Trust{Untrusted: append([]string{}, w.Untrusted...), Out: w.Out, Schema: w.Schema})
	if err != nil {
		return err
	}
	cmd, err := r.once(ctx, c, "eval", postScript, 3,
		watermark.TurnKey(w.Source, w.Partition), watermark.SetsKey(w.Source), watermark.TrustKey(w.Source, w.Partition),
		string(turn), strconv.Itoa(w.Partition), sets, trust)
	done := 0
	if err == nil {
		done, err = cmd.Int()
	}
	switch {
	case err != nil:
		r.lookAgain(ctx, c)
		return fmt.Errorf("post the watermark of %s, partition %d: %w", w.Source, w.Partition, explain(err))
	case done == 0:
		return fmt.Errorf("post the watermark of %s, partition %d: %w", w.Source, w.Partition, pipeline.ErrTurnOver)
	}
	return nil
}
