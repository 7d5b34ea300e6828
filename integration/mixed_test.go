package integration

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestOracle runs a mixed workload and compares the deletes that Redis executed with what mysqlbinlog says had to be
// deleted: everything twice, and nothing else.
func TestOracle(t *testing.T) {
	t.Run("kafka", func(t *testing.T) { testOracle(t, options{}) })
	t.Run("embedded", func(t *testing.T) { testOracle(t, options{embedded: true}) })
	t.Run("canal", func(t *testing.T) { testOracle(t, options{embedded: true, driver: "canal"}) })
	t.Run("mariadb", func(t *testing.T) { testOracle(t, options{embedded: true, source: envtest.MariaDB(t)}) })
}

// Keys that nobody may delete, whatever happens.
var foreign = []string{"sess:1", "sess:item:1", "cart:1", "items:1", "Item:1", "xitem:1", "category:5", "orders:counter", "k:unknown:1", "{item}:1"}

// Keys that look like keys of the schema, for rows that do not exist: only a sweep deletes them.
var decoys = []string{"item:999999999", "category:12345:items", "price:no-such-sku", "acct:nobody", "cart:{nobody}:all", "kind:77777777", "bulk:999999999", "k:bi:5000"}

func testOracle(t *testing.T, o options) {
	o.more = "log_level: debug" // says which first deletes were late enough
	r := newRig(t, o)
	cache := r.cache()
	set(t, cache, append(slices.Clone(foreign), decoys...)...)
	first, others := r.pipeline(2)
	r.settle()
	// A first start does not trust what was cached before it.
	if left := existing(t, cache, decoys...); len(left) > 0 {
		t.Errorf("keys cached before the first start are still there: %q", left)
	}
	set(t, cache, decoys...)
	r.mark()
	w := &workload{r: r, writers: 4, ops: pick(600, 5000)}
	if r.mariadb() {
		w.begins = map[string]int64{}
	}
	stop := w.inBackground(t)
	r.mon.wait(t, stalled, func() bool { return r.mon.count() > 500 }) // in the midst of it
	w.bulk(10_000_000, 100_000)
	eventually(t, 5*time.Minute, "the workload ends", func() bool { return w.done.Load() >= int64(w.writers*w.ops) })
	stop()
	r.settle()
	scans := r.mon.scanCount()
	r.require(r.ask(w.begins))
	if scans > 0 {
		t.Errorf("%d SCANs: whole tables were invalidated, and no change asks for it", scans)
	}
	if left := existing(t, cache, append(slices.Clone(foreign), decoys...)...); len(left) != len(foreign)+len(decoys) {
		t.Errorf("of keys that no change asks for only these are left: %q", left)
	}
	for _, p := range append(others, first) {
		if code := p.stop(); code != 0 {
			t.Errorf("%s: exit code %d after SIGTERM", p.Name(), code)
		}
	}
}

// cache is a client of the Redis that the pipeline deletes in.
func (r *rig) cache() *redis.Client {
	return openCache(r.t, r.o.monitors[0])
}

func openCache(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := testenv.OpenRedis(&testenv.Server{Addr: addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func set(t *testing.T, c redis.UniversalClient, keys ...string) {
	t.Helper()
	for _, k := range keys {
		if err := c.Set(t.Context(), k, "x", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func existing(t *testing.T, c redis.UniversalClient, keys ...string) (found []string) {
	t.Helper()
	for _, k := range keys {
		n, err := c.Exists(t.Context(), k).Result()
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			found = append(found, k)
		}
	}
	return found
}

// gate is a TCP proxy that can refuse connections: what comes back behind it is watched before anybody can use it.
type gate struct {
	addr   string
	target string
	l      net.Listener
	open   chan bool // holds the state
}

func newGate(t *testing.T, target string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{addr: l.Addr().String(), target: target, l: l, open: make(chan bool, 1)}
	g.open <- true
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go g.serve(c)
		}
	}()
	return g
}

func (g *gate) set(open bool) {
	<-g.open
	g.open <- open
}

func (g *gate) serve(c net.Conn) {
	defer c.Close()
	open := <-g.open
	g.open <- open
	if !open {
		return
	}
	to, err := net.Dial("tcp", g.target)
	if err != nil {
		return
	}
	defer to.Close()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{c, to}, {to, c}} {
		go func() {
			buf := make([]byte, 64<<10)
			for {
				n, err := pair[0].Read(buf)
				if n > 0 {
					if _, err := pair[1].Write(buf[:n]); err != nil {
						break
					}
				}
				if err != nil {
					break
				}
			}
			done <- struct{}{}
		}()
	}
	<-done
}

// TestComparison shows that the oracle can fail: that each kind of loss is found.
func TestComparison(t *testing.T) {
	const sec = 1_000_000
	at := func(times ...int64) map[string][]int64 { return map[string][]int64{"k": times} }
	change := func(times ...int64) *oracle {
		o := &oracle{byKey: map[string][]expected{}}
		for _, x := range times {
			o.byKey["k"] = append(o.byKey["k"], expected{key: "k", rowChange: rowChange{committed: x}})
		}
		return o
	}
	for _, c := range []struct {
		name    string
		o       *oracle
		deletes map[string][]int64
		wrong   bool
		single  int
	}{
		{"both", change(10 * sec), at(10.01*sec, 11.01*sec), false, 0},
		{"none", change(10 * sec), nil, true, 0},
		{"early", change(10 * sec), at(9*sec, 9.9*sec), true, 0},
		{"no second", change(10 * sec), at(10.01 * sec), true, 1},
		{"late enough", change(10 * sec), at(11.5 * sec), false, 1},
		{"second too early", change(10 * sec), at(10.01*sec, 10.9*sec), true, 0},
		{"covered by a later change", change(10*sec, 20*sec), at(20.01*sec, 21.01*sec), false, 0},
		{"later change lost", change(10*sec, 20*sec), at(10.01*sec, 11.01*sec), true, 0},
	} {
		v := c.o.compare(c.deletes, time.Second)
		if v.count > 0 != c.wrong || v.single != c.single {
			t.Errorf("%s: %d problems, %d single: %v", c.name, v.count, v.single, v.problems)
		}
	}
	if extra := change(1).unexpected(map[string][]int64{"other": {5}}); fmt.Sprint(extra) != "[other]" {
		t.Errorf("unexpected deletes: %q", extra)
	}
}

// TestVectors checks this package's key protocol against the published vectors.
func TestVectors(t *testing.T) {
	src, err := os.ReadFile("../keys/testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Encode []struct{ Hex, Encoded string }
	}
	if err := json.Unmarshal(src, &vectors); err != nil || len(vectors.Encode) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, v := range vectors.Encode {
		text, err := hex.DecodeString(v.Hex)
		if got := encodeValue(string(text)); err != nil || got != v.Encoded {
			t.Errorf("encode %s: got %s, want %s, %v", v.Hex, got, v.Encoded, err)
		}
	}
}
