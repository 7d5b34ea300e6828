package deleter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Time limits. A healthy round trip takes milliseconds; one that runs into a
// limit is tried again by the engine, which also says so.
const (
	ioTimeout   = 3 * time.Second // one dial, one read or write
	callTimeout = 5 * time.Second // one call, redirects and reconnects included
)

// silence stops go-redis from writing to stderr: its calls return what it says
// there, and the engine reports that.
var silence = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// client returns the connection, made by the first caller that succeeds.
func (r *Redis) client(ctx context.Context) (redis.UniversalClient, error) {
	select {
	case r.connecting <- struct{}{}:
		defer func() { <-r.connecting }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if r.conn != nil {
		return r.conn, nil
	}
	mode := r.cfg.Mode
	if mode == Auto {
		var err error
		if mode, err = r.detect(ctx); err != nil {
			return nil, err
		}
	}
	o := r.options()
	switch mode {
	case Cluster:
		r.conn = redis.NewClusterClient(o.Cluster())
	case Sentinel:
		r.conn = redis.NewFailoverClient(o.Failover())
	default:
		r.conn = redis.NewClient(o.Simple())
	}
	r.mode = mode
	return r.conn, nil
}

func (r *Redis) options() *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Addrs: r.cfg.Addrs, MasterName: r.cfg.Master, DB: r.cfg.DB,
		Username: r.cfg.Username, Password: r.cfg.Password,
		SentinelUsername: r.cfg.SentinelUsername, SentinelPassword: r.cfg.SentinelPassword,
		TLSConfig: r.cfg.TLS,

		// Without it a read ignores the context's deadline.
		ContextTimeoutEnabled: true,
		DialTimeout:           ioTimeout,
		ReadTimeout:           ioTimeout,
		WriteTimeout:          ioTimeout,
		PoolTimeout:           ioTimeout,
		// The engine retries and reports; in here only a Cluster's redirects are followed.
		MaxRetries:    -1,
		DialerRetries: 1,
		MaxRedirects:  3,
		// Commands that an ACL would have to allow, and that we do not need.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// single returns a client of one node. The caller closes it.
func (r *Redis) single(addr string) *redis.Client {
	o := r.options().Simple()
	o.Addr = addr
	return redis.NewClient(o)
}

// detect asks the addresses what they are until one answers.
func (r *Redis) detect(ctx context.Context) (mode string, err error) {
	var errs []error
	for _, addr := range r.cfg.Addrs {
		s, err := call(ctx, r, func(ctx context.Context) (server, error) {
			c := r.single(addr)
			defer c.Close() //nolint:errcheck // nothing to lose
			return whatIs(ctx, c)
		})
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("connect to Redis at %s: %w", addr, explain(err)))
		case s.mode == Sentinel:
			return "", fmt.Errorf("%s is a Sentinel; set redis.master to the name of the master that it watches", addr)
		case s.mode == Cluster:
			return Cluster, nil
		case len(r.cfg.Addrs) > 1:
			return "", fmt.Errorf("%s is not in a Cluster, but %d addresses are given: give the master's only, or for Sentinel set redis.master", addr, len(r.cfg.Addrs))
		default:
			return Standalone, nil
		}
	}
	return "", errors.Join(errs...)
}

// server is what a server says about itself.
type server struct {
	mode string // Standalone, Sentinel or Cluster
	role string // master or replica; "" for a Sentinel
}

// commander is a client, or a connection.
type commander interface {
	Do(ctx context.Context, args ...any) *redis.Cmd
}

// whatIs asks by HELLO, which no ACL forbids, or by INFO where the server is too
// old to know HELLO.
func whatIs(ctx context.Context, c commander) (s server, err error) {
	reply, err := c.Do(ctx, "hello").Result()
	if m, ok := reply.(map[any]any); ok && err == nil {
		s.mode, _ = m["mode"].(string)
		s.role, _ = m["role"].(string)
		return s, nil
	}
	if _, ok := errors.AsType[redis.Error](err); err != nil && !ok {
		return s, err
	}
	info, err := c.Do(ctx, "info").Text()
	if err != nil {
		return s, err
	}
	s.mode, s.role = infoField(info, "redis_mode"), role(info)
	return s, nil
}

// infoField finds "name:value" in the answer to INFO.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// What a Redis user of the pipeline needs to be allowed in an ACL, on the keys of the
// schema and on doubletap:*. docs/operations.md and docs/configuration.md have the
// same lists. HGET, MGET and EXISTS are for replays, ASKING for slots on the move.
const (
	grants        = "+unlink +scan +get +set +mget +pttl +exists +hget +hset +hgetall +eval +info +ping +select"
	clusterGrants = "+cluster|slots +cluster|nodes +asking" // in a Cluster besides
)

// explained is an error with what to do about it.
type explained struct {
	err error
	fix string
}

func (e *explained) Error() string { return e.err.Error() + "; " + e.fix }
func (e *explained) Unwrap() error { return e.err }

// explain adds to an error of Redis what to do about it, once.
func explain(err error) error {
	if _, ok := errors.AsType[*explained](err); ok {
		return err
	}
	text := err.Error()
	for _, e := range []struct{ has, fix string }{
		{"unknown command 'sentinel'", "this is no Sentinel: give the Sentinels' addresses in redis.addrs, or leave redis.master out"},
		{"unknown command `sentinel`", "this is no Sentinel: give the Sentinels' addresses in redis.addrs, or leave redis.master out"},
		{"all sentinels specified in configuration are unreachable", "check redis.addrs (of the Sentinels), redis.master and redis.sentinel_password"},
		{noPermission, "allow it: ACL SETUSER <user> ~* " + grants + ", in a Cluster also " + clusterGrants},
		{"WRONGPASS", "check redis.username and redis.password"},
		{"NOAUTH", "set redis.password (and redis.username)"},
		{"invalid password", "check redis.password"},
		{"READONLY", "this is a replica: give the master's address, or let Sentinel or a Cluster name it"},
		{"NOREPLICAS", "Redis takes no writes while fewer replicas are connected than its min-replicas-to-write: bring one back"},
		{"unknown command", "Redis 4 or newer, or Valkey, is needed"},
		{"MISCONF", "Redis takes no writes while it cannot save: see its log"},
		{"DB index is out of range", "check redis.db"},
		{"CLUSTERDOWN", "the Cluster is down: see CLUSTER INFO"},
		{"cluster support disabled", "this is not a Cluster: set redis.mode: standalone, or leave it out"},
		{"CROSSSLOT", "this is a Cluster: set redis.mode: cluster, or leave it out"},
		{"MOVED", "this is a Cluster: set redis.mode: cluster, or leave it out"},
		{"x509: ", "check redis.tls: ca, server_name"},
	} {
		if strings.Contains(text, e.has) {
			return &explained{err, e.fix}
		}
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return &explained{err, "no answer in time: is Redis up, not blocked by a slow command, and is redis.tls as it wants it?"}
	}
	return err
}

// noPermission begins what Redis answers to who may not run a command, or not with
// such a key.
const noPermission = "NOPERM"

// Forbidden says whether err is Redis's answer to a user whose ACL does not allow
// what was asked.
func Forbidden(err error) bool {
	return err != nil && strings.Contains(err.Error(), noPermission)
}
