package deleter

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// mover moves one slot between two masters of a Cluster, as redis-cli does.
type mover struct {
	t        *testing.T
	from, to *redis.Client
	fromID   string
	toID     string
	toAddr   string
	slot     int
}

func newMover(t *testing.T, from, to *testenv.Server, slot int) *mover {
	t.Helper()
	m := &mover{t: t, from: plain(t, from), to: plain(t, to), toAddr: to.Addr, slot: slot}
	var err1, err2 error
	m.fromID, err1 = m.from.ClusterMyID(t.Context()).Result()
	m.toID, err2 = m.to.ClusterMyID(t.Context()).Result()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *mover) do(c *redis.Client, args ...any) error {
	if err := c.Do(m.t.Context(), args...).Err(); err != nil {
		return fmt.Errorf("%v…: %w", args[:min(len(args), 3)], err)
	}
	return nil
}

// begin marks the slot as moving.
func (m *mover) begin() error {
	return errors.Join(
		m.do(m.to, "cluster", "setslot", m.slot, "importing", m.fromID),
		m.do(m.from, "cluster", "setslot", m.slot, "migrating", m.toID))
}

// some moves up to n keys and returns how many there were.
func (m *mover) some(n int) (int, error) {
	keys, err := m.from.ClusterGetKeysInSlot(m.t.Context(), m.slot, n).Result()
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	host, port, _ := strings.Cut(m.toAddr, ":")
	args := []any{"migrate", host, port, "", 0, 5000, "replace", "keys"}
	for _, k := range keys {
		args = append(args, k)
	}
	return len(keys), m.do(m.from, args...)
}

// end gives the slot to its new owner.
func (m *mover) end() error {
	for {
		if n, err := m.some(100); err != nil {
			return err
		} else if n == 0 {
			break
		}
	}
	return errors.Join(
		m.do(m.to, "cluster", "setslot", m.slot, "node", m.toID),
		m.do(m.from, "cluster", "setslot", m.slot, "node", m.toID))
}

func (m *mover) back(t *testing.T, from *testenv.Server) *mover {
	t.Helper()
	return &mover{t: t, from: m.to, to: m.from, fromID: m.toID, toID: m.fromID, toAddr: from.Addr, slot: m.slot}
}

// inSlot are keys of one slot, by their hash tag.
func inSlot(prefix string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = prefix + "{t}:" + strconv.Itoa(i)
	}
	return keys
}

// slotOf returns the slot and the master that has it.
func slotOf(t *testing.T, c *redis.ClusterClient, cluster *testenv.Cluster, key string) (slot int, owner, other *testenv.Server) {
	t.Helper()
	n, err := c.ClusterKeySlot(t.Context(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	i := int(n) * len(cluster.Masters) / 16384
	return int(n), cluster.Masters[i], cluster.Masters[(i+1)%len(cluster.Masters)]
}

// TestClusterDeleteWhileASlotMoves: MOVED and ASK for single keys of a pipeline.
func TestClusterDeleteWhileASlotMoves(t *testing.T) {
	cluster := envtest.RedisCluster(t)
	c := clusterClient(t, cluster)
	ctx := t.Context()
	r := open(t, Config{Addrs: cluster.Addrs()})
	slot, owner, other := slotOf(t, c, cluster, "{t}")
	keys := append(inSlot("a", 900), "x", "y", "z", "u:1", "u:2", "u:3")
	if err := errors.Join(set(ctx, c, keys...), r.Delete(ctx, []string{"warm"})); err != nil {
		t.Fatal(err)
	}
	m := newMover(t, owner, other, slot)
	check := func(when string, part []string) {
		t.Helper()
		eventually(t, when, func() error { return r.Delete(ctx, part) })
		if there, err := left(ctx, c, part...); err != nil || len(there) > 0 {
			t.Errorf("%s: %d of %d keys are left, %v", when, len(there), len(part), err)
		}
	}
	if err := m.begin(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.some(300); err != nil {
		t.Fatal(err)
	}
	check("half moved", append(keys[100:200:200], keys[400:500]...))
	check("half moved, not existing", inSlot("none", 100))
	if err := m.end(); err != nil {
		t.Fatal(err)
	}
	check("moved", keys)
}

// TestClusterSweepWhileSlotsMove moves a slot back and forth during sweeps: when
// a sweep returns nil, every key that was there at its begin is gone.
func TestClusterSweepWhileSlotsMove(t *testing.T) {
	cluster := envtest.RedisCluster(t)
	c := clusterClient(t, cluster)
	ctx := t.Context()
	slot, owner, other := slotOf(t, c, cluster, "{t}")
	stale, others := inSlot("item:", 3_000), inSlot("user:", 2_000)
	r := open(t, Config{Addrs: cluster.Addrs(), ScanRate: 20_000})
	there := newMover(t, owner, other, slot)
	back := there.back(t, owner)
	for round := range 4 {
		m := there
		if round%2 == 1 {
			m = back
		}
		if err := errors.Join(set(ctx, c, stale...), set(ctx, c, others...), m.begin()); err != nil {
			t.Fatal(err)
		}
		if _, err := m.some(1_000); err != nil {
			t.Fatal(err)
		}
		var moved atomic.Int64
		ended := make(chan error, 1)
		begun := make(chan struct{})
		go func() {
			for i := range 40 { // slowly, while the sweep runs
				n, err := m.some(20)
				if moved.Add(int64(n)); err != nil {
					ended <- err
					return
				}
				if i == 0 {
					close(begun)
				}
			}
			if round < 2 {
				ended <- m.end()
				return
			}
			ended <- nil // the slot stays on the move to the end of the sweep
		}()
		<-begun
		eventually(t, "sweep", func() error { _, err := r.DeletePatterns(ctx, []string{"item:*"}); return err })
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if round >= 2 {
			if err := m.end(); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("round %d: %d keys moved during the sweep", round, moved.Load())
		if there, err := left(ctx, c, stale...); err != nil || len(there) > 0 {
			t.Errorf("round %d: %d keys are left, %v", round, len(there), err)
		}
		if there, err := left(ctx, c, others...); err != nil || len(there) != len(others) {
			t.Errorf("round %d: %d of %d other keys are left, %v", round, len(there), len(others), err)
		}
	}
}

// TestClusterSweepOfANewMaster: a slot moves to a master that has none yet, which
// CLUSTER SLOTS does not show although it has keys.
func TestClusterSweepOfANewMaster(t *testing.T) {
	cluster := envtest.RedisCluster(t)
	fresh := envtest.Redis(t, testenv.RedisOptions{Memory: true, Args: []string{
		"--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1", "--cluster-port", freePort(t)}})
	c := clusterClient(t, cluster)
	ctx := t.Context()
	slot, owner, _ := slotOf(t, c, cluster, "{t}")
	m := newMover(t, owner, fresh, slot)
	host, port, _ := strings.Cut(owner.Addr, ":")
	info := plain(t, owner)
	bus := field(t, info, owner.Addr)
	if err := m.do(m.to, "cluster", "meet", host, port, bus); err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]any{{m.from, m.toID}, {m.to, m.fromID}} {
		eventually(t, "meet", func() error {
			text, err := pair[0].(*redis.Client).ClusterNodes(ctx).Result()
			if err == nil && (!strings.Contains(text, pair[1].(string)) || strings.Contains(text, "handshake")) {
				err = errors.New("the nodes do not know each other")
			}
			return err
		})
	}
	eventually(t, "the new master to be in", func() error {
		info, err := m.to.ClusterInfo(ctx).Result()
		if err == nil && infoField(info, "cluster_state") != "ok" {
			err = errors.New(info)
		}
		return err
	})
	keys := inSlot("item:", 500)
	if err := errors.Join(set(ctx, c, keys...), m.begin()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.some(200); err != nil {
		t.Fatal(err)
	}
	r := open(t, Config{Addrs: cluster.Addrs()})
	n := 0
	eventually(t, "sweep", func() error {
		got, err := r.DeletePatterns(ctx, []string{"item:*"})
		n += got
		return err
	})
	if n != len(keys) {
		t.Errorf("deleted %d, want %d", n, len(keys))
	}
	if left, err := m.to.DBSize(ctx).Result(); left != 0 || err != nil {
		t.Errorf("%d keys are left on the new master, %v", left, err)
	}
}

// field finds the bus port of a node in its own CLUSTER NODES.
func field(t *testing.T, c *redis.Client, addr string) string {
	t.Helper()
	text, err := c.ClusterNodes(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(text, addr+"@")
	if !ok {
		t.Fatalf("%s is not in\n%s", addr, text)
	}
	return rest[:strings.IndexAny(rest, ", ")]
}
