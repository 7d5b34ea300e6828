package testenv

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Sentinel is a Redis master with a replica, watched by three sentinels of which two must agree.
type Sentinel struct {
	Name      string    // the master's name: "mymaster"
	Master    *Server   // at the start
	Replica   *Server   // at the start
	Sentinels []*Server // ask these who is master now
}

// RedisSentinel starts a master, a replica and three sentinels, and waits until the sentinels know all of them. A master
// that does not answer for a second is failed over.
func (e *Env) RedisSentinel(ctx context.Context) (*Sentinel, error) {
	s := &Sentinel{Name: "mymaster"}
	if err := s.start(ctx, e); err != nil {
		return nil, errors.Join(fmt.Errorf("start Redis with sentinels: %w", err), s.Close())
	}
	return s, nil
}

func (s *Sentinel) start(ctx context.Context, e *Env) (err error) {
	if s.Master, err = e.Redis(ctx, RedisOptions{}); err != nil {
		return err
	}
	master := strconv.Itoa(s.Master.ports[0].number)
	if s.Replica, err = e.Redis(ctx, RedisOptions{Args: []string{"--replicaof", "127.0.0.1 " + master}}); err != nil {
		return err
	}
	if err := waitReplication(ctx, s.Replica, "master_link_status", "up"); err != nil {
		return err
	}
	s.Sentinels, err = parallel(3, func(int) (*Server, error) {
		return e.run(ctx, 1, 0, func(ports []port) *spec { return s.sentinelSpec(ports, master) })
	})
	if err != nil {
		return err
	}
	return s.WaitOK(ctx)
}

// sentinelSpec describes one sentinel. It writes what it learns into its configuration file.
func (s *Sentinel) sentinelSpec(ports []port, master string) *spec {
	sp := redisSpec("redis", ports, nil)
	sp.kind = "sentinel"
	sp.args = []string{"sentinel.conf", "--sentinel"}
	sp.files = map[string]string{"sentinel.conf": fmt.Sprintf(`port %[1]s
bind 127.0.0.1
protected-mode no
sentinel monitor %[2]s 127.0.0.1 %[3]s 2
sentinel down-after-milliseconds %[2]s 1000
sentinel failover-timeout %[2]s 5000
sentinel parallel-syncs %[2]s 1
`, ports[0], s.Name, master)}
	return sp
}

// WaitOK waits until every sentinel sees a living master, a replica, and the other sentinels.
func (s *Sentinel) WaitOK(ctx context.Context) error {
	for _, n := range s.Sentinels {
		err := poll(ctx, n, func(r *redis.Client) (bool, string, error) {
			m := redis.NewMapStringStringCmd(ctx, "SENTINEL", "MASTER", s.Name)
			err := r.Process(ctx, m)
			v := m.Val()
			return err == nil && v["flags"] == "master" && v["num-slaves"] != "0" && v["num-other-sentinels"] == "2", fmt.Sprint(v), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Addrs returns the addresses of the sentinels.
func (s *Sentinel) Addrs() (addrs []string) {
	for _, n := range s.Sentinels {
		addrs = append(addrs, n.Addr)
	}
	return addrs
}

// Close kills all its servers. It is idempotent.
func (s *Sentinel) Close() error {
	return closeAll(append([]*Server{s.Master, s.Replica}, s.Sentinels...))
}
