package testenv

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// ClusterOptions are the further settings of a Redis Cluster; the zero value is usable.
type ClusterOptions struct {
	Replicas int      // per master
	Valkey   bool     // Valkey instead of Redis
	Args     []string // further arguments of every node
}

// Cluster is a running Redis Cluster that serves all slots.
type Cluster struct {
	Masters  []*Server // in the order of their slots, at the start
	Replicas []*Server // master by master, at the start
}

// clusterSlots is the number of slots of every Redis Cluster.
const clusterSlots = 16384

// RedisCluster starts a Redis Cluster of the given number of masters (at least 3) and waits until every node calls it ok.
// A node that does not answer for 2 seconds is failed over.
func (e *Env) RedisCluster(ctx context.Context, masters int, opts ...ClusterOptions) (*Cluster, error) {
	var o ClusterOptions
	if len(opts) > 0 {
		o = opts[0]
	}
	if masters < 3 {
		return nil, fmt.Errorf("a Redis Cluster needs 3 masters to agree on failures, not %d", masters)
	}
	kind := "redis"
	if o.Valkey {
		kind = "valkey"
	}
	nodes, err := parallel(masters*(1+o.Replicas), func(int) (*Server, error) {
		return e.run(ctx, 2, 0, func(ports []port) *spec {
			args := append(redisArgs(RedisOptions{}), "--cluster-enabled", "yes", "--cluster-port", ports[1].String(),
				"--cluster-announce-ip", "127.0.0.1", "--cluster-node-timeout", "2000")
			return redisSpec(kind, ports, append(args, o.Args...))
		})
	})
	c := &Cluster{Masters: nodes[:masters], Replicas: nodes[masters:]}
	if err == nil {
		err = c.form(ctx, o.Replicas)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a Redis Cluster: %w", err), c.Close())
	}
	return c, nil
}

// parallel makes n things at once; where one fails, the others are still returned.
func parallel(n int, f func(i int) (*Server, error)) ([]*Server, error) {
	made, errs := make([]*Server, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { made[i], errs[i] = f(i) })
	}
	wg.Wait()
	return made, errors.Join(errs...)
}

// form gives the masters their slots, introduces all nodes to the first one, and attaches the replicas.
func (c *Cluster) form(ctx context.Context, replicas int) error {
	all := c.all()
	ids := make([]string, len(all))
	for i, n := range all {
		err := with(n, func(r *redis.Client) error {
			if i < len(c.Masters) {
				from, to := i*clusterSlots/len(c.Masters), (i+1)*clusterSlots/len(c.Masters)-1
				if err := r.ClusterAddSlotsRange(ctx, from, to).Err(); err != nil {
					return err
				}
			}
			// Nodes that start with different epochs need not settle who is newer.
			if err := r.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
				return err
			}
			first := all[0]
			err := r.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", first.ports[0].number, first.ports[1].number).Err()
			if err == nil {
				ids[i], err = r.ClusterMyID(ctx).Result()
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := c.until(ctx, func(info string) bool { return infoField(info, "cluster_known_nodes") == strconv.Itoa(len(all)) }); err != nil {
		return err
	}
	for i, n := range c.Replicas {
		err := with(n, func(r *redis.Client) error { return r.ClusterReplicate(ctx, ids[i/replicas]).Err() })
		if err != nil {
			return err
		}
	}
	return c.WaitOK(ctx)
}

// WaitOK waits until every node calls the cluster ok and every replica has its data.
func (c *Cluster) WaitOK(ctx context.Context) error {
	err := c.until(ctx, func(info string) bool {
		return infoField(info, "cluster_state") == "ok" && infoField(info, "cluster_slots_ok") == strconv.Itoa(clusterSlots)
	})
	for _, n := range c.Replicas {
		err = errors.Join(err, waitReplication(ctx, n, "master_link_status", "up"))
	}
	return err
}

// until polls CLUSTER INFO of every node.
func (c *Cluster) until(ctx context.Context, done func(info string) bool) error {
	for _, n := range c.all() {
		err := poll(ctx, n, func(r *redis.Client) (bool, string, error) {
			info, err := r.ClusterInfo(ctx).Result()
			return err == nil && done(info), info, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// waitReplication polls INFO replication of one node for a field.
func waitReplication(ctx context.Context, s *Server, field, value string) error {
	return poll(ctx, s, func(r *redis.Client) (bool, string, error) {
		info, err := r.Info(ctx, "replication").Result()
		return err == nil && infoField(info, field) == value, info, err
	})
}

// poll asks a node until ok says true, for startTimeout at most; state is for the error.
func poll(ctx context.Context, s *Server, ask func(*redis.Client) (ok bool, state string, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return with(s, func(r *redis.Client) error {
		for {
			ok, state, err := ask(r)
			if ok {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s at %s did not get ready: %w\n%s", s.Kind, s.Addr, errors.Join(ctx.Err(), err), strings.TrimSpace(state))
			case <-time.After(25 * time.Millisecond):
			}
		}
	})
}

// with gives f a client of one node.
func with(s *Server, f func(*redis.Client) error) error {
	r := OpenRedis(s)
	defer r.Close()
	return f(r)
}

func (c *Cluster) all() []*Server { return append(append([]*Server{}, c.Masters...), c.Replicas...) }

// Addrs returns the addresses of all nodes.
func (c *Cluster) Addrs() (addrs []string) {
	for _, n := range c.all() {
		addrs = append(addrs, n.Addr)
	}
	return addrs
}

// Close kills all nodes. It is idempotent.
func (c *Cluster) Close() error { return closeAll(c.all()) }

func closeAll(servers []*Server) error {
	var errs []error
	for _, s := range servers {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}
