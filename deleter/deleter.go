// Package deleter deletes keys in Redis or Valkey: standalone, behind Sentinel,
// or in a Cluster. [Redis] implements pipeline.Deleter.
//
// Named keys are deleted by pipelined UNLINK, whole tables by SCAN and UNLINK on
// every master. An acknowledged delete is one whose own reply was read: the
// replies of a pipeline are checked one by one. Nothing is retried for long in
// here: the engine calls again, and deletes are idempotent.
//
// A key that matches a protected glob is never deleted, whatever the caller
// says: it is counted, logged, and left out.
package deleter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Modes of a Redis. With Auto the server says whether it is a Cluster, and a
// Config with a Master is Sentinel.
const (
	Auto       = "auto"
	Standalone = "standalone"
	Sentinel   = "sentinel"
	Cluster    = "cluster"
)

// Config says where the keys are and which are not to be touched.
type Config struct {
	Addrs  []string // host:port of the master, of Sentinels, or of some Cluster nodes
	Mode   string   // one of the modes above, "" for Auto
	Master string   // the master's name in Sentinel
	DB     int

	Username, Password                 string
	SentinelUsername, SentinelPassword string
	TLS                                *tls.Config // nil: no TLS

	// Protect are Redis globs of keys that are never deleted.
	Protect []string
	// ScanRate is how many keys a second a sweep looks at on one node, all sweeps
	// of this process together; 0 means 100,000.
	ScanRate int
	// Stall is how long a node may give no answer before it counts as having stood
	// still; 0 means 100 ms, and 40 ms is the least.
	Stall time.Duration

	Logger *slog.Logger   // nil: nothing is logged
	Hooks  pipeline.Hooks // Refused is called
}

// Redis deletes keys. It is safe for concurrent use.
type Redis struct {
	cfg     Config
	log     *slog.Logger
	protect globs
	refusal refusal

	connecting chan struct{}         // holds a token while a caller connects
	conn       redis.UniversalClient // nil until connected
	mode       string                // of conn

	mu       sync.Mutex
	limiters map[string]*rate.Limiter // of sweeps, by node address
	calls    sync.WaitGroup           // calls that their callers may have left
	closed   bool
	watch    *watch // for stalls; nil until somebody asks
}

var _ pipeline.Deleter = (*Redis)(nil)

// New checks cfg. It connects to nothing: the first call does.
func New(cfg Config) (*Redis, error) {
	if cfg.Mode == "" {
		cfg.Mode = Auto
	}
	if cfg.ScanRate == 0 {
		cfg.ScanRate = 100_000
	}
	if cfg.Stall == 0 {
		cfg.Stall = 100 * time.Millisecond
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case len(cfg.Addrs) == 0:
		return nil, errors.New("no address of Redis is given")
	case !slices.Contains([]string{Auto, Standalone, Sentinel, Cluster}, cfg.Mode):
		return nil, fmt.Errorf("redis mode %q is none of: auto, standalone, sentinel, cluster", cfg.Mode)
	case cfg.Mode == Sentinel && cfg.Master == "":
		return nil, errors.New("redis mode sentinel needs the master's name")
	case cfg.Mode == Standalone && len(cfg.Addrs) > 1:
		return nil, errors.New("redis mode standalone takes one address, the master's")
	case cfg.ScanRate < 0:
		return nil, errors.New("the scan rate is negative")
	}
	if cfg.Mode == Auto && cfg.Master != "" {
		cfg.Mode = Sentinel
	}
	silence()
	return &Redis{
		cfg: cfg, log: cfg.Logger, protect: compileAll(cfg.Protect),
		connecting: make(chan struct{}, 1), limiters: map[string]*rate.Limiter{},
	}, nil
}

// Close ends the connections and the watch for stalls, and waits for calls that
// are under way: a few seconds where Redis does not answer.
func (r *Redis) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	if r.watch != nil {
		r.watch.close()
	}
	r.calls.Wait()
	r.connecting <- struct{}{}
	defer func() { <-r.connecting }()
	if r.conn == nil {
		return nil
	}
	return r.conn.Close()
}

// Sizes of one round trip. Measured with Redis 8.0 on two shared cores, 30-byte
// keys that do not exist (BenchmarkUnlinkSize): 0.4 million keys/s with one key a
// command, 2.5 with 8, 6.5 with 128, 3 to 5 with more. 128 also lets other
// clients' commands in between every 0.1 ms.
const (
	keysPerCommand = 128
	keysPerTrip    = 10_240
)

// Delete implements pipeline.Deleter. It returns as soon as ctx ends; what was
// sent by then may still be carried out. What fails holds up nothing else. The
// errors say how many keys are not known to be deleted, and the first reason.
func (r *Redis) Delete(ctx context.Context, keys []string) error {
	keys = r.withoutProtected(keys)
	if len(keys) == 0 {
		return nil
	}
	c, err := r.client(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for trip := range slices.Chunk(keys, keysPerTrip) {
		if _, err := r.unlink(ctx, c, trip); err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if len(failed) > 0 {
		r.lookAgain(ctx, c)
	}
	return errors.Join(failed...)
}

// lookAgain has go-redis read the slot map, in the background: a pipeline that
// cannot reach a master does not make it do so (v9.23.0, osscluster.go), and
// would ask a dead one for as long as the old map is good.
func (r *Redis) lookAgain(ctx context.Context, c redis.UniversalClient) {
	if cluster, ok := c.(*redis.ClusterClient); ok {
		cluster.ReloadState(ctx)
	}
}

// unlink deletes keys in one round trip to each node and returns how many of
// them existed.
func (r *Redis) unlink(ctx context.Context, c redis.UniversalClient, keys []string) (existed int, err error) {
	per := keysPerCommand
	if r.mode == Cluster {
		per = 1 // several keys in a command would have to be in one slot, also while it moves
	}
	pipe := c.Pipeline()
	cmds := make([]*redis.IntCmd, 0, len(keys)/per+1)
	for chunk := range slices.Chunk(keys, per) {
		cmds = append(cmds, pipe.Unlink(ctx, chunk...))
	}
	// Exec's error is the first command's that has one; each is looked at below.
	if _, err := call(ctx, r, func(ctx context.Context) ([]redis.Cmder, error) {
		cmds, _ := pipe.Exec(ctx)
		return cmds, nil
	}); err != nil {
		return 0, fmt.Errorf("delete %d keys: %w", len(keys), explain(err))
	}
	var first error
	failed, firstKey := 0, ""
	for i, cmd := range cmds {
		n, err := cmd.Result()
		existed += int(n)
		if err != nil {
			failed += min(per, len(keys)-i*per)
			if first == nil {
				first, firstKey = err, keys[i*per]
			}
		}
	}
	if first != nil {
		return existed, fmt.Errorf("delete %d of %d keys, of those at %s: %w", failed, len(keys), r.where(ctx, c, firstKey), explain(first))
	}
	return existed, nil
}

// call runs f with a time limit and returns when ctx ends even if f does not:
// go-redis keeps to a deadline, but a cancelled context does not wake it from a
// read.
func call[T any](ctx context.Context, r *Redis, f func(ctx context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	done := make(chan result, 1)
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return none, redis.ErrClosed
	}
	r.calls.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		value, err := f(ctx)
		done <- result{value, err}
	})
	r.mu.Unlock()
	select {
	case res := <-done:
		return res.value, res.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// where names the node that a key belongs to, for messages.
func (r *Redis) where(ctx context.Context, c redis.UniversalClient, key string) string {
	switch c := c.(type) {
	case *redis.ClusterClient:
		if node, err := c.MasterForKey(ctx, key); err == nil {
			return node.Options().Addr
		}
	case *redis.Client:
		if r.mode == Standalone {
			return c.Options().Addr
		}
		return "the master " + r.cfg.Master
	}
	return "the cluster"
}
