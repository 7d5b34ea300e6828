package testenv

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// RedisOptions are the settings of a Redis or Valkey server; the zero value is usable.
type RedisOptions struct {
	Args   []string // further server arguments: "--maxmemory", "10mb"
	Port   int      // fixed port; 0 chooses one
	Memory bool     // keep nothing on disk: the server comes back empty. Without it an append-only file survives Kill

	// Next is Redis as Debian's suite experimental has it, where that is newer than the others' and can be had; else, and
	// as a container, it changes nothing.
	Next bool
}

// Redis starts a standalone Redis server and waits until it answers.
func (e *Env) Redis(ctx context.Context, o RedisOptions) (*Server, error) {
	return e.redisServer(ctx, "redis", o)
}

// Valkey starts a standalone Valkey server and waits until it answers.
func (e *Env) Valkey(ctx context.Context, o RedisOptions) (*Server, error) {
	return e.redisServer(ctx, "valkey", o)
}

func (e *Env) redisServer(ctx context.Context, kind string, o RedisOptions) (*Server, error) {
	return e.run(ctx, 1, o.Port, func(ports []port) *spec {
		sp := redisSpec(kind, ports, append(redisArgs(o), o.Args...))
		if o.Next {
			sp.native = func(ctx context.Context, n *native, sp *spec, _ string) (*process, error) {
				argv, err := n.redisNext(ctx)
				return &process{argv: append(argv, sp.args...)}, err
			}
		}
		return sp
	})
}

// redisArgs: the append-only file is written before each reply and never rewritten, so that Kill loses nothing and no
// helper process is forked. A replica's first copy does not wait for further replicas, as it does for 5 seconds by default.
func redisArgs(o RedisOptions) []string {
	args := []string{"--bind", "127.0.0.1", "--protected-mode", "no", "--daemonize", "no", "--save", "", "--repl-diskless-sync-delay", "0"}
	if o.Memory {
		return append(args, "--appendonly", "no")
	}
	return append(args, "--appendonly", "yes", "--appendfsync", "no", "--auto-aof-rewrite-percentage", "0")
}

func redisSpec(kind string, ports []port, args []string) *spec {
	return &spec{
		kind: kind, component: kind, ready: redisReady,
		args: append([]string{"--port", ports[0].String()}, args...),
		native: func(ctx context.Context, n *native, sp *spec, _ string) (*process, error) {
			argv, err := n.redisProgram(ctx, kind)
			return &process{argv: append(argv, sp.args...)}, err
		},
		container: containerSpec{cmd: []string{kind + "-server"}},
	}
}

// redisProgram returns the server's command line. Debian's redis-server is a link to redis-check-rdb, which looks at the
// name that it is called by.
func (n *native) redisProgram(ctx context.Context, kind string) ([]string, error) {
	root, _, err := n.cache.packaged(ctx, kind)
	if err != nil {
		return nil, err
	}
	return program(root, kind+"-server", "usr/bin/"+kind+"-server")
}

// redisReady asks for the version. The process id tells this server from a stranger on the same port.
func redisReady(ctx context.Context, s *Server) (version string, err error) {
	c := OpenRedis(s)
	defer c.Close()
	info, err := c.Info(ctx, "server").Result()
	if err != nil {
		return "", err
	}
	// Inside a container the process has another id, and the engine reports a taken port.
	if pid := infoField(info, "process_id"); s.by == (*native)(nil).name() && s.Pid() != 0 && pid != strconv.Itoa(s.Pid()) {
		return "", fmt.Errorf("%w: process %s answers", errPortTaken, pid)
	}
	if version = infoField(info, "valkey_version"); version == "" {
		version = infoField(info, "redis_version")
	}
	return version, nil
}

// OpenRedis returns a client of one Redis or Valkey server that does not retry.
func OpenRedis(s *Server) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: s.Addr, MaxRetries: -1, ContextTimeoutEnabled: true, DialerRetries: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// infoField finds "name:value" in the answer of INFO.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
