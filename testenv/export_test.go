package testenv

import (
	"context"
	"net"
	"path/filepath"
)

// Folder runs build as the one maker of component name below dir, and returns its folder.
func Folder(ctx context.Context, dir, name string, build func(dir string) error) (string, error) {
	c := &cache{dir: dir, log: func(string) {}}
	path, _, err := c.folder(ctx, name, "recipe", func(_ context.Context, dir string) (stamp, error) {
		return stamp{Version: "1"}, build(dir)
	})
	return path, err
}

// RedisOnTakenPort starts Redis, whose first choice of a port is taken by a stranger just before Redis would listen.
func (e *Env) RedisOnTakenPort(ctx context.Context) (s *Server, stranger net.Listener, err error) {
	s, err = e.run(ctx, 1, 0, func(ports []port) *spec {
		if stranger == nil {
			stranger, _ = new(net.ListenConfig).Listen(ctx, "tcp", ports[0].addr())
		}
		return redisSpec("redis", ports, redisArgs(RedisOptions{}))
	})
	return s, stranger, err
}

// Root returns the folder of the servers' data.
func (e *Env) Root() string { return filepath.Clean(e.root) }

var ParseMode = parseMode
