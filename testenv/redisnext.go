package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// redisNext returns the command line of the Redis in Debian's suite experimental, or where there is none of the usual one.
// Two packages are fetched, 2 MB with the suite's index: they are made for sid, so what they depend on is in the usual
// one's folder.
func (n *native) redisNext(ctx context.Context) ([]string, error) {
	usual, err := n.redisProgram(ctx, "redis")
	if err != nil {
		return nil, err
	}
	next := func(dir string) []string {
		return append(usual[:len(usual)-1:len(usual)-1], filepath.Join(dir, "usr/bin/redis-server"))
	}
	dir, _, err := n.cache.folder(ctx, "redis-next", "1", func(ctx context.Context, dir string) (stamp, error) {
		s, err := n.cache.alone(ctx, "experimental", dir, "redis-server", "redis-tools")
		if err != nil {
			return s, err
		}
		argv := append(next(dir), "--version")
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return s, fmt.Errorf("try redis-server %s: %w\n%s", s.Version, err, out)
		}
		return s, nil
	})
	if err != nil && ctx.Err() == nil { // a suite that nobody has to have
		n.cache.log("the usual Redis will do: " + err.Error())
		return usual, nil
	}
	return next(dir), err
}

// alone unpacks packages of a suite into dir, without what they depend on.
func (c *cache) alone(ctx context.Context, suite, dir string, packages ...string) (stamp, error) {
	unlock, err := c.lock(ctx, "apt-"+suite)
	if err != nil {
		return stamp{}, err
	}
	defer unlock()
	s, err := c.openSuite(ctx, suite)
	if err != nil {
		return stamp{}, err
	}
	debs := filepath.Join(dir, ".debs")
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return stamp{}, err
	}
	if out, err := s.aptIn(ctx, debs, append([]string{"download"}, packages...)...); err != nil {
		return stamp{}, fmt.Errorf("%w\n%s", err, out)
	}
	versions, err := extract(ctx, debs, dir)
	if err != nil {
		return stamp{}, err
	}
	return stamp{Version: upstream(versions[packages[0]]), Suite: suite, Packages: versions}, errors.Join(os.RemoveAll(debs), mergeUsr(dir), tidy(dir))
}
