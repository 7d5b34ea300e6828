package deleter

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

var _ pipeline.Watermarks = (*Redis)(nil)

// Watermarks are two keys of one slot, so that one round trip writes both, and a
// reader in a Cluster has one node to ask. The key schema refuses templates that
// begin as they do.
//
//	doubletap:{<source>}:watermarks           hash: partition → postedSets, kept for ever
//	doubletap:{<source>}:trusted:<partition>  string: postedTrust, which expires
func watermarksKey(source string) string { return "doubletap:{" + source + "}:watermarks" }

func trustedKey(source string, partition int) string {
	return "doubletap:{" + source + "}:trusted:" + strconv.Itoa(partition)
}

type postedSets struct {
	Partitions int    `json:"partitions"`
	First      string `json:"first"`
	Second     string `json:"second"`
}

type postedTrust struct {
	Untrusted []string `json:"untrusted"` // never null
}

// Post implements pipeline.Watermarks. It returns as soon as ctx ends; what was
// sent by then may still be carried out.
func (r *Redis) Post(ctx context.Context, w pipeline.Watermark, trusted time.Duration) error {
	c, err := r.client(ctx)
	if err != nil {
		return err
	}
	sets, err := json.Marshal(postedSets{Partitions: w.Partitions, First: w.First, Second: w.Second})
	if err != nil {
		return err
	}
	trust, err := json.Marshal(postedTrust{Untrusted: append([]string{}, w.Untrusted...)})
	if err != nil {
		return err
	}
	pipe := c.Pipeline()
	// Exec's error is the first command's that has one.
	pipe.HSet(ctx, watermarksKey(w.Source), strconv.Itoa(w.Partition), sets)
	pipe.Set(ctx, trustedKey(w.Source, w.Partition), trust, max(trusted, time.Millisecond))
	if _, err := call(ctx, r, func(ctx context.Context) ([]redis.Cmder, error) { return pipe.Exec(ctx) }); err != nil {
		r.lookAgain(ctx, c)
		return fmt.Errorf("post the watermark of %s, partition %d: %w", w.Source, w.Partition, explain(err))
	}
	return nil
}
