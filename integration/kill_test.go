package integration

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestKill kills processes with SIGKILL at random moments under load, starts them again, and checks that no delete of
// either pass was lost: in the short lane 50 kills with MySQL and 50 with MariaDB, of the tailer and of two invalidators,
// and some of the whole pipeline in one process.
func TestKill(t *testing.T) {
	t.Run("kafka", func(t *testing.T) { testKill(t, options{}, pick(50, 200)) })
	t.Run("embedded", func(t *testing.T) { testKill(t, options{embedded: true}, pick(12, 150)) })
	t.Run("canal", func(t *testing.T) { testKill(t, options{embedded: true, driver: "canal"}, pick(8, 100)) })
	t.Run("mariadb", func(t *testing.T) {
		testKill(t, options{source: envtest.MariaDB(t)}, pick(50, 200))
	})
	t.Run("mariadb embedded", func(t *testing.T) {
		testKill(t, options{embedded: true, source: envtest.MariaDB(t)}, pick(8, 150))
	})
}

func testKill(t *testing.T, o options, kills int) {
	o.more = "log_level: debug" // says which first deletes were late enough
	r := newRig(t, o)
	r.killUnderLoad(kills, 1)
}

// killUnderLoad starts the whole pipeline, kills one process after the other at random moments under load, starts each
// again, and asks the oracle in the end. stream chooses the random numbers.
func (r *rig) killUnderLoad(kills int, stream uint64) {
	r.t.Helper()
	first, others := r.pipeline(2)
	r.settle()
	r.mark()
	w := &workload{r: r, writers: 3, pause: 15 * time.Millisecond, heavy: true}
	if r.mariadb() {
		w.begins = map[string]int64{}
	}
	stop := w.inBackground(r.t)
	slots := append(others, first)
	rng := newRand(r.seed, stream)
	for n := range kills {
		r.moment(rng)
		i := n % len(slots)
		slots[i].Kill()
		slots[i] = r.again(slots[i])
	}
	for _, p := range slots {
		p.ready()
	}
	stop()
	r.settle()
	r.require(r.ask(w.begins))
	r.t.Logf("%d kills while %d transactions committed", kills, w.applied.Load())
}

// moment waits for a random while: from nothing at all to the midst of the work.
func (r *rig) moment(rng *rand.Rand) {
	limit := []time.Duration{20, 300, 1000, 2000}[rng.IntN(4)] * time.Millisecond
	until := time.After(time.Duration(rng.Int64N(int64(limit))))
	if rng.IntN(2) == 0 { // not before something was deleted
		n := r.mon.count()
		r.mon.wait(r.t, 2*time.Second, func() bool { return r.mon.count() > n })
	}
	<-until
}

// TestKillAtFirstStart kills the pipeline again and again from its very first start on. Whatever was changed since, or
// cached before, must be deleted in the end.
func TestKillAtFirstStart(t *testing.T) {
	for _, embedded := range []bool{false, true} {
		t.Run(map[bool]string{false: "kafka", true: "embedded"}[embedded], func(t *testing.T) {
			r := newRig(t, options{embedded: embedded, fill: 500 * time.Millisecond})
			cache := r.cache()
			rng := newRand(r.seed, 2)
			name := "binlog-tailer"
			if embedded {
				name = "invalidator"
			}
			r.mark()
			var keys []string
			change := func() {
				k := "item:" + strconv.Itoa(len(keys)+1)
				set(t, cache, k) // stale once the row is there
				r.exec("INSERT INTO item VALUES (?, 1, 'sku', 5, 'draft', NULL)", len(keys)+1)
				keys = append(keys, k)
			}
			for range pick(6, 40) {
				p := r.run(name)
				until := time.After(time.Duration(rng.Int64N(int64(1500 * time.Millisecond))))
			writing:
				for {
					change()
					select {
					case <-until:
						break writing
					case <-time.After(10 * time.Millisecond):
					}
				}
				p.Kill()
				change()
			}
			r.pipeline(1)
			r.settle()
			if left := existing(t, cache, keys...); len(left) > 0 {
				t.Errorf("%d of %d stale keys are left, for example %q", len(left), len(keys), left[:min(len(left), 10)])
			}
		})
	}
}

// TestRestart kills and restarts the servers under load, and stops Redis for a while: the pipeline goes on by itself,
// and loses nothing.
func TestRestart(t *testing.T) {
	// Own servers: others would not like to be here.
	source, redis := envtest.MySQL(t, testenv.MySQLOptions{}), envtest.Redis(t, testenv.RedisOptions{})
	kafka := envtest.Kafka(t, testenv.KafkaOptions{})
	g := newGate(t, redis.Addr)
	r := newRig(t, options{
		source: source, kafka: kafka, redis: "addrs: [\"" + g.addr + "\"]", monitors: []string{redis.Addr},
		more: "log_level: debug",
	})
	r.pipeline(2)
	r.settle()
	r.mark()
	w := &workload{r: r, writers: 3, pause: 15 * time.Millisecond, patient: true}
	stop := w.inBackground(t)
	revive := func(s *testenv.Server) {
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	goesOn := func(what string) {
		t.Helper()
		done, n := w.applied.Load()+20, r.mon.count()+50
		ok := r.mon.wait(t, stalled, func() bool { return w.applied.Load() >= done && r.mon.count() >= n })
		if !ok {
			t.Fatalf("the pipeline does not go on by itself after %s:\n%s", what, r.state())
		}
		t.Logf("went on after %s", what)
	}
	for range pick(2, 10) {
		g.set(false) // nobody may delete before MONITOR sees it
		revive(redis)
		r.mon.attach(t, redis.Addr)
		g.set(true)
		goesOn("a restart of Redis")
		revive(source)
		goesOn("a restart of MySQL")
		revive(kafka)
		goesOn("a restart of Kafka")
		if err := redis.Pause(); err != nil {
			t.Fatal(err)
		}
		<-time.After(5 * time.Second) // longer than clients wait for an answer
		if err := redis.Resume(); err != nil {
			t.Fatal(err)
		}
		goesOn("a pause of Redis")
	}
	stop()
	r.settle()
	r.require(r.ask(nil))
}
