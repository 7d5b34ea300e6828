package deleter

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/watermark"
)

var _ pipeline.Watermarks = (*Redis)(nil)

// Post implements pipeline.Watermarks. The two keys are of one slot, so that one
// round trip writes both. It returns as soon as ctx ends; what was
// sent by then may still be carried out.
func (r *Redis) Post(ctx context.Context, w pipeline.Watermark, trusted time.Duration) error {
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
	pipe := c.Pipeline()
	// Exec's error is the first command's that has one.
	pipe.HSet(ctx, watermark.SetsKey(w.Source), strconv.Itoa(w.Partition), sets)
	pipe.Set(ctx, watermark.TrustKey(w.Source, w.Partition), trust, max(trusted, time.Millisecond))
	if _, err := call(ctx, r, func(ctx context.Context) ([]redis.Cmder, error) { return pipe.Exec(ctx) }); err != nil {
		r.lookAgain(ctx, c)
		return fmt.Errorf("post the watermark of %s, partition %d: %w", w.Source, w.Partition, explain(err))
	}
	return nil
}
