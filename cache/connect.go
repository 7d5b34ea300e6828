package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// client returns the connection, made by the first caller that succeeds. On it
// nothing is retried, but what a Cluster's node has redirected; the caller bounds
// each call by a deadline in ctx.
func (c *Client) client(ctx context.Context) (redis.UniversalClient, error) {
	if conn := c.conn.Load(); conn != nil {
		return *conn, nil
	}
	select {
	case c.connecting <- struct{}{}:
		defer func() { <-c.connecting }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if conn := c.conn.Load(); conn != nil {
		return *conn, nil
	}
	if closed {
		return nil, ErrClosed
	}
	mode := c.o.Redis.Mode
	if mode == Auto {
		var err error
		if mode, err = c.detect(ctx); err != nil {
			return nil, err
		}
	}
	o := c.redisOptions()
	var conn redis.UniversalClient
	switch mode {
	case Cluster:
		cluster := o.Cluster()
		cluster.DisableRoutingPolicies = true // they need COMMAND, and serve commands without a key
		conn = redis.NewClusterClient(cluster)
	case Sentinel:
		conn = redis.NewFailoverClient(o.Failover())
	default:
		conn = redis.NewClient(o.Simple())
	}
	c.conn.Store(&conn)
	return conn, nil
}

func (c *Client) redisOptions() *redis.UniversalOptions {
	r := c.o.Redis
	return &redis.UniversalOptions{
		Addrs: r.Addrs, MasterName: r.Master, DB: r.DB,
		Username: r.Username, Password: r.Password,
		SentinelUsername: r.SentinelUsername, SentinelPassword: r.SentinelPassword,
		TLSConfig: r.TLS, PoolSize: r.PoolSize,

		// Without it a read ignores the context's deadline.
		ContextTimeoutEnabled: true,
		DialTimeout:           max(time.Second, c.o.RedisTimeout),
		ReadTimeout:           c.o.RedisTimeout,
		WriteTimeout:          c.o.RedisTimeout,
		PoolTimeout:           c.o.RedisTimeout,
		// The same lease must never be asked for twice; and a Get does not wait.
		MaxRetries:    -1,
		DialerRetries: 1,
		MaxRedirects:  3,
		// Commands that an ACL would have to allow, and that we do not need.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// detect asks the addresses what they are until one answers.
func (c *Client) detect(ctx context.Context) (mode string, err error) {
	var errs []error
	for _, addr := range c.o.Redis.Addrs {
		o := c.redisOptions().Simple()
		o.Addr, o.DB = addr, 0
		one := redis.NewClient(o)
		mode, err := modeOf(ctx, one)
		one.Close() //nolint:errcheck // nothing to lose
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("connect to Redis at %s: %w", addr, err))
		case mode == Sentinel:
			return "", fmt.Errorf("%s is a Sentinel: set Redis.Master to the name of the master that it watches", addr)
		case mode == Cluster:
			return Cluster, nil
		case len(c.o.Redis.Addrs) > 1:
			return "", fmt.Errorf("%s is not in a Cluster, but %d addresses are given: give the master's only, or for Sentinel set Redis.Master", addr, len(c.o.Redis.Addrs))
		default:
			return Standalone, nil
		}
	}
	return "", errors.Join(errs...)
}

// modeOf asks by HELLO, which no ACL forbids.
func modeOf(ctx context.Context, c *redis.Client) (string, error) {
	reply, err := c.Do(ctx, "hello").Result()
	if err != nil {
		return "", err
	}
	fields, _ := reply.(map[any]any)
	mode, _ := fields["mode"].(string)
	return strings.ToLower(mode), nil
}
