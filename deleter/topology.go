package deleter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// topology is where keys are at one moment.
type topology struct {
	nodes []node
	// slots tells two topologies of a Cluster apart: each master's id, its
	// configuration epoch, which grows whenever a slot changes hands, and its
	// slots with those on the move. Empty where there is no Cluster.
	slots  string
	moving bool // some slot is being moved, so that its keys are on two nodes
}

// node is one server whose keys are swept.
type node struct {
	addr   string
	client *redis.Client
	own    bool // made for this sweep, to be closed after it
}

func (t *topology) close() {
	for _, n := range t.nodes {
		if n.own {
			n.client.Close() //nolint:errcheck // nothing to lose
		}
	}
}

// topology asks every master for its part.
func (r *Redis) topology(ctx context.Context, c redis.UniversalClient) (*topology, error) {
	cluster, ok := c.(*redis.ClusterClient)
	if !ok {
		client := c.(*redis.Client)
		return &topology{nodes: []node{{addr: r.where(ctx, c, ""), client: client}}}, nil
	}
	selves, err := call(ctx, r, func(ctx context.Context) ([]clusterNode, error) { return askMasters(ctx, cluster) })
	if err != nil {
		return nil, fmt.Errorf("read the cluster's slot map: %w", explain(err))
	}
	t := &topology{}
	targets := map[string]string{} // masters that a slot moves to: id → address
	for _, s := range selves {
		t.nodes = append(t.nodes, node{addr: s.client.Options().Addr, client: s.client})
		maps.Copy(targets, s.targets)
	}
	t.fingerprint(selves)
	// A master that gets its first slot has keys before CLUSTER SLOTS knows it.
	for _, s := range selves {
		delete(targets, s.id)
	}
	for _, addr := range targets {
		t.nodes = append(t.nodes, node{addr: addr, client: r.single(addr), own: true})
	}
	return t, nil
}

func askMasters(ctx context.Context, c *redis.ClusterClient) ([]clusterNode, error) {
	var mu sync.Mutex
	var selves []clusterNode
	err := c.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		text, err := c.ClusterNodes(ctx).Result()
		if err != nil {
			return fmt.Errorf("%s: %w", c.Options().Addr, err)
		}
		self, err := parseNodes(text)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Options().Addr, err)
		}
		self.client = c
		mu.Lock()
		defer mu.Unlock()
		selves = append(selves, self)
		return nil
	})
	return selves, err
}

func (t *topology) fingerprint(selves []clusterNode) {
	lines := make([]string, len(selves))
	for i, s := range selves {
		lines[i] = s.id + " " + s.epoch + " " + strings.Join(s.slots, " ")
		t.moving = t.moving || s.moving
	}
	slices.Sort(lines)
	t.slots = strings.Join(lines, "\n")
}

// clusterNode is what a node says of itself in CLUSTER NODES.
type clusterNode struct {
	client    *redis.Client
	id, epoch string
	slots     []string          // with those on the move
	moving    bool              // some are on the move
	targets   map[string]string // nodes that they move to: id → address
}

// parseNodes reads the answer of one node to CLUSTER NODES: its own line, which
// is the only one that shows slots on the move, and the addresses of the nodes
// that its slots move to. A line is
// <id> <ip:port@bus[,host]> <flags> <master> <ping> <pong> <epoch> <link> <slot>...
func parseNodes(text string) (self clusterNode, err error) {
	addrs := map[string]string{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		addrs[f[0]], _, _ = strings.Cut(f[1], "@")
		if slices.Contains(strings.Split(f[2], ","), "myself") {
			self = clusterNode{id: f[0], epoch: f[6], slots: f[8:], targets: map[string]string{}}
		}
	}
	if self.id == "" {
		return self, errors.New("the answer to CLUSTER NODES does not show the node itself")
	}
	for _, slot := range self.slots {
		if !strings.HasPrefix(slot, "[") { // else [93->-<target>] or [93-<-<source>]
			continue
		}
		self.moving = true
		if _, target, ok := strings.Cut(strings.Trim(slot, "[]"), "->-"); ok {
			if addrs[target] == "" {
				return self, fmt.Errorf("a slot moves to the node %s, whose address is not known", target)
			}
			self.targets[target] = addrs[target]
		}
	}
	return self, nil
}
