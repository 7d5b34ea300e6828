package integration

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/commands"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestObserve looks without touching: everything but the deletes.
func TestObserve(t *testing.T) {
	r := newRig(t, options{embedded: true, more: "mode: observe", fill: 300 * time.Millisecond})
	cache := r.cache()
	set(t, cache, "item:1", "item:2", "category:1:items")
	p, _ := r.pipeline(0)
	r.exec("INSERT INTO item VALUES (1, 1, 'sku', 5, 'draft', NULL), (2, 1, 'sku', 5, 'draft', NULL)")
	r.exec("TRUNCATE TABLE item")
	for _, pass := range []string{`pass="first"`, `pass="second"`} {
		eventually(t, stalled, "the metrics count the deletes of the pass "+pass, func() bool {
			keys, _ := p.metric("doubletap_deleted_keys_total", pass)
			sweeps, _ := p.metric("doubletap_sweeps_total", pass)
			return keys >= 4 && sweeps > 0
		})
	}
	if n, err := p.metric("doubletap_observing"); n != 1 {
		t.Errorf("doubletap_observing is %v, %v", n, err)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	for k := range r.mon.snapshot() {
		if k != probe {
			t.Errorf("key %q was deleted", k)
		}
	}
	if left := existing(t, cache, "item:1", "item:2", "category:1:items"); len(left) != 3 {
		t.Errorf("only these keys are left: %q", left)
	}
}

// TestSharedRedis shares a Redis with sessions and carts, through everything that deletes by pattern.
func TestSharedRedis(t *testing.T) {
	server := envtest.Redis(t)
	flush(t, server)
	r := newRig(t, options{
		embedded: true, fill: 300 * time.Millisecond, monitors: []string{server.Addr},
		redis: fmt.Sprintf("addrs: [%q], protect: ['sess:*', 'basket:*']", server.Addr),
	})
	cache := r.cache()
	var others []string
	for i := range 300 {
		others = append(others, fmt.Sprintf("sess:%d", i), fmt.Sprintf("basket:item:%d", i), fmt.Sprintf("session:item:%d", i))
	}
	others = append(others, foreign...)
	set(t, cache, others...)
	set(t, cache, decoys...)
	r.pipeline(0) // the first start invalidates everything
	r.settle()
	if left := existing(t, cache, decoys...); len(left) > 0 {
		t.Errorf("the first start has left %q", left)
	}
	r.exec("INSERT INTO item VALUES (1, 1, 'sku', 5, 'draft', NULL)")
	r.exec("TRUNCATE TABLE item")
	r.exec("DROP TABLE ev_01")
	r.exec("ALTER TABLE account DROP COLUMN joined, ADD COLUMN joined DATETIME(3) NULL FIRST")
	r.settle()
	if left := existing(t, cache, others...); len(left) != len(others) {
		t.Errorf("%d of %d keys of others are gone", len(others)-len(left), len(others))
	}
	for k := range r.mon.snapshot() {
		if strings.HasPrefix(k, "sess:") || strings.HasPrefix(k, "basket:") {
			t.Errorf("a delete of %q was tried", k)
		}
	}
}

// TestDDL invalidates whole tables, in both passes, and nothing but those tables.
func TestDDL(t *testing.T) {
	items := []string{"item:7", "category:7:items", "price:7", "sale:7:7"}
	for _, c := range []struct {
		name, stmt string
		gone, stay []string
	}{
		{"truncate", "TRUNCATE TABLE item", items, []string{"order:7", "event:7:7", "kind:7"}},
		{"drop", "DROP TABLE orders", []string{"order:7", "user:7:orders", "orders:count"}, append([]string{"event:7:7"}, items...)},
		{"rename", "RENAME TABLE ev_01 TO ev_99", []string{"event:7:7"}, append([]string{"order:7"}, items...)},
		{"statement with a comment", "/* x */ truncate /* y */ " + "`item`", items, []string{"order:7"}},
		{"another table", "TRUNCATE TABLE audit", nil, append([]string{"order:7", "event:7:7"}, items...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, options{embedded: true, fill: time.Second})
			cache := r.cache()
			r.pipeline(0)
			r.settle()
			all := append(c.gone[:len(c.gone):len(c.gone)], c.stay...)
			set(t, cache, all...)
			r.exec(c.stmt)
			gone := func() bool { return len(existing(t, cache, c.gone...)) == 0 }
			eventually(t, stalled, "the first pass deletes", gone)
			set(t, cache, c.gone...) // a slow reader puts the old values back
			eventually(t, stalled, "the second pass deletes", gone)
			r.settle()
			if left := existing(t, cache, c.stay...); len(left) != len(c.stay) {
				t.Errorf("of keys of other tables only these are left: %q", left)
			}
			set(t, cache, c.gone...)
			r.settle() // there is no third pass
			if left := existing(t, cache, c.gone...); len(left) != len(c.gone) {
				t.Errorf("of values that were cached later only these are left: %q", left)
			}
		})
	}
}

// TestTwoOnOneHost starts one tailer and two invalidators on one host with the configuration that the README shows.
func TestTwoOnOneHost(t *testing.T) {
	r := newRig(t, options{})
	admin := consecutivePorts(t, 3)
	r.config = r.write("doubletap.yaml", strings.NewReplacer(
		"127.0.0.1:3306", r.o.source.Addr, "127.0.0.1:9092", r.o.kafka.Addr, "127.0.0.1:6379", r.o.monitors[0],
		"127.0.0.1:9400", fmt.Sprintf("127.0.0.1:%d", admin), "doubletap.shop", r.topic,
	).Replace(`source:  {name: shop, addr: "127.0.0.1:3306", user: cdc, password: "${MYSQL_PASSWORD}", start: current}
log:     {kafka: {brokers: ["127.0.0.1:9092"], topic: doubletap.shop, partitions: 8}}     # or: log: {embedded: {dir: ./data}}
redis:   {addrs: ["127.0.0.1:6379"]}                    # also mode, master, db, username, password, tls, protect
keys:    keys.yaml
second_delete: {fill: 1s}
admin:   {listen: "127.0.0.1:9400"}
`))
	var procs []*process
	for i, name := range []string{"binlog-tailer", "invalidator", "invalidator"} {
		p := start(t, name, r.config, commands.Start)
		r.procs = append(r.procs, p)
		procs = append(procs, p)
		p.Admin = fmt.Sprintf("127.0.0.1:%d", admin+i)
		p.ready()
		out := p.Log()
		if !strings.Contains(out, p.Admin) {
			t.Errorf("process %d does not say that it listens at %s:\n%s", i, p.Admin, tail(out, 10))
		}
		if i > 0 && !strings.Contains(out, "level=WARN") {
			t.Errorf("process %d does not warn that the port was busy:\n%s", i, tail(out, 10))
		}
	}
	r.settle()
	eventually(t, stalled, "both invalidators own four of the eight partitions", func() bool {
		a, _ := procs[1].metric("doubletap_partitions_owned")
		b, _ := procs[2].metric("doubletap_partitions_owned")
		return a == 4 && b == 4
	})
	r.mark()
	(&workload{r: r, writers: 2, ops: 100}).run(t.Context())
	r.settle()
	r.require(r.ask(nil))
}

// consecutivePorts returns the first of n ports in a row on which nobody listens.
func consecutivePorts(t *testing.T, n int) int {
	t.Helper()
	for range 50 {
		_, text, _ := net.SplitHostPort(envtest.FreeAddr(t))
		first, _ := strconv.Atoi(text)
		free := first+n < 65536
		for i := range n {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+i))
			if err != nil {
				free = false
				break
			}
			_ = l.Close()
		}
		if free {
			return first
		}
	}
	t.Fatal("no ports in a row are free")
	return 0
}

// TestClusterSentinelValkey runs a short workload on every kind of Redis.
func TestClusterSentinelValkey(t *testing.T) {
	short := func(t *testing.T, redis string, monitors ...string) {
		r := newRig(t, options{embedded: true, redis: redis, monitors: monitors})
		r.pipeline(0)
		r.settle()
		r.mark()
		(&workload{r: r, writers: 2, ops: 150}).run(t.Context())
		r.settle()
		r.require(r.ask(nil))
	}
	t.Run("cluster", func(t *testing.T) {
		c := envtest.RedisCluster(t)
		var addrs []string
		for _, m := range c.Masters {
			addrs = append(addrs, m.Addr)
			flush(t, m)
		}
		short(t, fmt.Sprintf("addrs: [%q], mode: auto", addrs[0]), addrs...)
	})
	t.Run("sentinel", func(t *testing.T) {
		s := envtest.RedisSentinel(t)
		flush(t, s.Master)
		var addrs []string
		for _, x := range s.Sentinels {
			addrs = append(addrs, strconv.Quote(x.Addr))
		}
		short(t, fmt.Sprintf("addrs: [%s], mode: sentinel, master: %s", strings.Join(addrs, ", "), s.Name), s.Master.Addr)
	})
	t.Run("valkey", func(t *testing.T) {
		s := envtest.Valkey(t)
		flush(t, s)
		short(t, fmt.Sprintf("addrs: [%q]", s.Addr), s.Addr)
	})
	t.Run("password", func(t *testing.T) {
		addr := passwordRedis(t)
		short(t, fmt.Sprintf("addrs: [%q], password: \"${REDIS_PASSWORD}\", db: 3", addr), addr)
	})
}
