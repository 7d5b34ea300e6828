package main

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quietly{})
	envtest.Main(m)
}

// openTest opens a world on servers of the test's own.
func openTest(t *testing.T, w *world, caches []string) {
	t.Helper()
	w.env, w.say = envtest.Shared(t), t.Logf // skips or fails where no server can be had
	if err := open(t.Context(), w, caches); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
}

// TestRaces is a short run of the harness: under every fault no key of doubletap
// may be stale at rest, while the textbook's are, so that the harness can see
// stale keys.
func TestRaces(t *testing.T) {
	w := &world{fill: time.Second, keys: 24 * 50, kafka: true, outage: 4 * time.Second}
	openTest(t, w, []string{textbook, plain, lease})
	st := &state{Settings: settings{Seed: rand.Uint64(), Caches: []string{textbook, plain, lease}}}
	lanes := newLanes(24, 50)
	for i, fault := range faults {
		b := batch{number: i, seed: st.Settings.Seed, fault: fault, races: 5000}
		if fault != calm {
			b.least, b.most = 5*time.Second, 15*time.Second
		}
		o, err := w.run(t.Context(), lanes, b)
		if err != nil {
			t.Fatalf("fault %s, seed %d: %v", fault, st.Settings.Seed, err)
		}
		st.Batches = append(st.Batches, o)
		for _, e := range o.Examples {
			t.Error(e)
		}
	}
	var text bytes.Buffer
	ok := report(&text, st)
	t.Log(text.String())
	if !ok {
		t.Errorf("keys were left stale, seed %d", st.Settings.Seed)
	}
	all := st.totals("")
	if all[textbook].Stale == 0 {
		t.Error("the textbook left no key stale: this test cannot fail")
	}
	if all[lease].Asked == 0 {
		t.Error("no user has read with a token")
	}
	for name, tally := range all {
		if tally.Races < 1000 || tally.Cached == 0 {
			t.Errorf("%s: %d races, %d values compared: the load shows nothing", name, tally.Races, tally.Cached)
		}
	}
}

// TestDemo: every way to invalidate but doubletap's must be stale somewhere.
func TestDemo(t *testing.T) {
	envtest.Shared(t)
	var out bytes.Buffer
	ok, err := demo(t.Context(), names, false, &out)
	t.Log(out.String())
	if err != nil || !ok || !strings.Contains(out.String(), "GREEN") {
		t.Errorf("ok %t, err %v", ok, err)
	}
}

// TestStoppedReplica: a reader that stands still holds up no first delete, and
// leaves nothing stale when it is back.
func TestStoppedReplica(t *testing.T) {
	w := &world{fill: time.Second, keys: 8 * latencyRate, kafka: true}
	openTest(t, w, []string{plain})
	s, err := w.stopReplicaAndMeasure(t.Context(), 6*time.Second, 8*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	s.print(&text)
	t.Log(text.String())
	// The ratio is for a machine that does nothing else; a first delete that waited
	// for the replica would take seconds.
	if s.Stopped.P50 > 500*time.Millisecond || s.Stopped.Lost > 0 || s.Stale > 0 {
		t.Errorf("%+v", s)
	}
}
