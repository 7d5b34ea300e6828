package deleter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// populate makes n keys "<prefix>:0" and on, fast.
func populate(t *testing.T, c *redis.Client, prefix string, n int) {
	t.Helper()
	// A million keys take a busy machine longer than a command should.
	if err := c.WithTimeout(time.Minute).Do(t.Context(), "debug", "populate", n, prefix, 1).Err(); err != nil {
		t.Fatal(err)
	}
}

var debuggable = testenv.RedisOptions{Memory: true, Args: []string{"--enable-debug-command", "yes"}}

// TestBigSweep deletes 200,000 keys among 1,000,000 others, while writers write
// other keys and fill stale ones again.
func TestBigSweep(t *testing.T) {
	s := envtest.Redis(t, debuggable)
	c := plain(t, s)
	ctx := t.Context()
	const stale, others = 200_000, 1_000_000
	populate(t, c, "item", stale)
	populate(t, c, "user", others)
	r := open(t, Config{Addrs: []string{s.Addr}, ScanRate: 1_000_000, Protect: []string{"sess:*"}})

	writing, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var written atomic.Int64
	for w := range 2 {
		wg.Go(func() {
			for i := 0; writing.Err() == nil; i++ {
				if err := set(ctx, redis.UniversalClient(c), fmt.Sprintf("new:%d:%d", w, i)); err != nil {
					t.Error(err)
					return
				}
				written.Add(1)
			}
		})
	}
	begin := time.Now()
	n, err := r.DeletePatterns(ctx, []string{"item:*"})
	took := time.Since(begin)
	stop()
	wg.Wait()
	if n != stale || err != nil {
		t.Errorf("DeletePatterns = %d, %v; want %d", n, err, stale)
	}
	size, err := c.DBSize(ctx).Result()
	if want := others + written.Load(); err != nil || size != want {
		t.Errorf("%d keys are left, %v; want %d", size, err, want)
	}
	t.Logf("looked at %d keys and deleted %d in %v, while %d were written", stale+others, n, took.Round(time.Millisecond), written.Load())
}

// TestScanRate: a sweep keeps to its rate, and two at a time share it.
func TestScanRate(t *testing.T) {
	s := envtest.Redis(t, debuggable)
	populate(t, plain(t, s), "user", 20_000)
	r := open(t, Config{Addrs: []string{s.Addr}, ScanRate: 40_000})
	begin := time.Now()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if n, err := r.DeletePatterns(t.Context(), []string{"item:*"}); n != 0 || err != nil {
				t.Error(n, err)
			}
		})
	}
	wg.Wait()
	// 40,000 keys in all, of which the first 1,000 are free; SCAN may look at a few more.
	if took := time.Since(begin); took < 900*time.Millisecond {
		t.Errorf("two sweeps over 20,000 keys at 40,000 keys/s took %v, want about 1 s", took)
	}
}

// TestSweepIsNotFooledByARestart: the server is replaced by another process
// during a sweep, so that the cursor means nothing any more.
func TestSweepIsNotFooledByARestart(t *testing.T) {
	s := envtest.Redis(t, testenv.RedisOptions{})
	c := plain(t, s)
	ctx := t.Context()
	keys := make([]string, 20_000)
	for i := range keys {
		keys[i] = "item:" + strconv.Itoa(i)
	}
	if err := set(ctx, redis.UniversalClient(c), keys...); err != nil {
		t.Fatal(err)
	}
	r := open(t, Config{Addrs: []string{s.Addr}, ScanRate: 20_000})
	ended := make(chan error, 1)
	go func() {
		_, err := r.DeletePatterns(ctx, []string{"item:*"})
		ended <- err
	}()
	eventually(t, "the sweep to begin", func() error {
		if n, err := c.DBSize(ctx).Result(); err != nil || n == int64(len(keys)) {
			return errors.Join(err, errors.New("nothing is deleted yet"))
		}
		return nil
	})
	if err := errors.Join(s.Kill(), s.Start(ctx)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a sweep over a restart was acknowledged")
	} else {
		t.Log(err)
	}
	eventually(t, "sweep", func() error { _, err := r.DeletePatterns(ctx, []string{"item:*"}); return err })
	if n, err := c.DBSize(ctx).Result(); n != 0 || err != nil {
		t.Errorf("%d keys are left, %v", n, err)
	}
}

// TestSweepNoticesAnotherServer: a restart or failover between two SCANs breaks
// no command; only the run id tells.
func TestSweepNoticesAnotherServer(t *testing.T) {
	a, b := envtest.Redis(t, memory), envtest.Redis(t, memory)
	for _, s := range []*testenv.Server{a, b} {
		keys := make([]string, 5_000)
		for i := range keys {
			keys[i] = "item:" + strconv.Itoa(i)
		}
		if err := set(t.Context(), redis.UniversalClient(plain(t, s)), keys...); err != nil {
			t.Fatal(err)
		}
	}
	p := newProxy(t, a.Addr, nil)
	r := open(t, Config{Addrs: []string{p.Addr().String()}})
	steps := 0
	_, err := r.sweep(t.Context(), []string{"item:*"}, func(_ context.Context, _ redis.UniversalClient, keys []string) (int, error) {
		if steps++; steps == 2 {
			p.to(b.Addr)
		}
		return len(keys), nil
	})
	if !errors.Is(err, errOtherServer) {
		t.Errorf("after %d steps the sweep ended with %v", steps, err)
	}
	if n, err := r.sweep(t.Context(), []string{"item:*"}, func(_ context.Context, _ redis.UniversalClient, keys []string) (int, error) {
		return len(keys), nil
	}); n != 5_000 || err != nil {
		t.Errorf("the next sweep: %d, %v", n, err)
	}
}

// TestSweepReportsProgress waits for one line of a long sweep.
func TestSweepReportsProgress(t *testing.T) {
	s := envtest.Redis(t, debuggable)
	populate(t, plain(t, s), "user", 2_000)
	lines := &lineLog{line: make(chan string, 16)}
	r := open(t, Config{Addrs: []string{s.Addr}, ScanRate: 200, Logger: slog.New(slog.NewTextHandler(lines, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := r.DeletePatterns(ctx, []string{"item:*", "price:*"})
		ended <- err
	}()
	select {
	case line := <-lines.line:
		if !strings.Contains(line, "sweeping") || !strings.Contains(line, "looked_at=") || strings.Contains(line, "looked_at=0") {
			t.Error(line)
		}
	case <-time.After(3 * reportEvery):
		t.Error("no line")
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled sweep ended with %v", err)
	}
}

type lineLog struct{ line chan string }

func (l *lineLog) Write(p []byte) (int, error) {
	l.line <- string(slices.Clone(p))
	return len(p), nil
}

func TestParseNodes(t *testing.T) {
	const text = `a 127.0.0.1:1@11,host myself,master - 0 0 7 connected 0-99 [93->-b] [94-<-c]
b 127.0.0.1:2@12 master - 0 1 2 connected 100-200
c :0@0 master,noaddr - 0 1 3 disconnected
`
	self, err := parseNodes(text)
	if err != nil || self.id != "a" || self.epoch != "7" || !self.moving || len(self.targets) != 1 || self.targets["b"] != "127.0.0.1:2" {
		t.Errorf("%+v, %v", self, err)
	}
	for _, bad := range []string{"", "x", strings.ReplaceAll(text, "myself,", ""), strings.ReplaceAll(text, "->-b", "->-d")} {
		if self, err := parseNodes(bad); err == nil {
			t.Errorf("%q gave %+v", bad, self)
		}
	}
}
