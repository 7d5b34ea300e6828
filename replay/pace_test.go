package replay

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// fakeLoad answers as it is told.
type fakeLoad struct {
	mu       sync.Mutex
	redis    time.Duration
	redisErr error
	lag      time.Duration
	known    bool
	lagErr   error
	behind   int64
}

func (f *fakeLoad) set(change func(*fakeLoad)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeLoad) Redis(context.Context) (time.Duration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.redis, f.redisErr
}

func (f *fakeLoad) Live(context.Context) (time.Duration, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lag, f.known, f.lagErr
}

func (f *fakeLoad) keysBehind(context.Context) (Backlog, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Backlog{First: f.behind, Second: 2 * f.behind}, nil
}

// paced runs f beside a Pace at work, in a bubble of time.
func paced(t *testing.T, p *Pace, load *fakeLoad, f func(ctx context.Context)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p.Load = load
		var wg sync.WaitGroup
		wg.Go(func() { p.run(ctx, load.keysBehind) })
		f(ctx)
		cancel()
		wg.Wait()
	})
}

// sent sends chunks of 500 keys for a time and returns how many keys went per second.
func sent(t *testing.T, ctx context.Context, p *Pace, d time.Duration) float64 {
	t.Helper()
	began, n := time.Now(), 0
	short, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for p.Wait(short, 500) == nil {
		n += 500
	}
	return float64(n) / time.Since(began).Seconds()
}

func TestPaceGrows(t *testing.T) {
	p, load := &Pace{Max: -1}, &fakeLoad{redis: 200 * time.Microsecond, known: true}
	paced(t, p, load, func(ctx context.Context) {
		if first := sent(t, ctx, p, time.Second); first < 2000 || first > 12_000 {
			t.Errorf("%.0f keys/s in the first second", first)
		}
		sent(t, ctx, p, 10*time.Second)
		if later := sent(t, ctx, p, 10*time.Second); later < 40_000 {
			t.Errorf("%.0f keys/s after 11 s without any trouble", later)
		}
		if v := p.View(); v.Stopped || v.Reason != "" {
			t.Errorf("%+v", v)
		}
	})
}

func TestPaceMax(t *testing.T) {
	for _, c := range []struct{ max, want float64 }{{3000, 3000}, {0, 20_000}, {300, 300}} {
		p, load := &Pace{Max: c.max}, &fakeLoad{redis: 200 * time.Microsecond}
		paced(t, p, load, func(ctx context.Context) {
			sent(t, ctx, p, 8*time.Second)
			if rate := sent(t, ctx, p, 20*time.Second); rate < 0.9*c.want || rate > 1.05*c.want {
				t.Errorf("at most %.0f: %.0f keys/s", c.max, rate)
			}
			if d := p.Waited()[ByRate]; d < 15*time.Second {
				t.Errorf("at most %.0f: waited %s for the rate", c.max, d)
			}
		})
	}
}

// TestPaceUnused: a source that is slower than the rate does not make it grow: it
// would be no bound any more when trouble comes.
func TestPaceUnused(t *testing.T) {
	p, load := &Pace{}, &fakeLoad{redis: 200 * time.Microsecond}
	paced(t, p, load, func(ctx context.Context) {
		for range 100 {
			if err := p.Wait(ctx, 100); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if v := p.View(); v.Rate > firstRate+rateStep {
			t.Errorf("the rate is %.0f", v.Rate)
		}
	})
}

// TestPaceStopsForLive: while live deletes are late nothing goes, whatever the rate
// was; then it goes on at half of it, and grows again.
func TestPaceStopsForLive(t *testing.T) {
	p, load := &Pace{}, &fakeLoad{redis: 200 * time.Microsecond, known: true}
	paced(t, p, load, func(ctx context.Context) {
		sent(t, ctx, p, 10*time.Second)
		before := p.View().Rate
		load.set(func(f *fakeLoad) { f.lag = 1500 * time.Millisecond })
		time.Sleep(300 * time.Millisecond) // one look
		if rate := sent(t, ctx, p, 30*time.Second); rate != 0 {
			t.Errorf("%.0f keys/s while live deletes are late", rate)
		}
		v := p.View()
		if !v.Stopped || !strings.Contains(v.Reason, "live deletes are 1.5s late, more than 1s") {
			t.Errorf("%+v", v)
		}
		if d := p.Waited()[ByLive]; d < 29*time.Second || d > 31*time.Second {
			t.Errorf("waited %s for live deletes", d)
		}
		load.set(func(f *fakeLoad) { f.lag = 900 * time.Millisecond })
		time.Sleep(300 * time.Millisecond)
		if v := p.View(); v.Stopped || v.Rate > before/2+rateStep || v.Rate < before/2 {
			t.Errorf("went on at %.0f after %.0f: %+v", v.Rate, before, v)
		}
		if rate := sent(t, ctx, p, 10*time.Second); rate < before/2 {
			t.Errorf("%.0f keys/s afterwards", rate)
		}
	})
}

// TestPaceRedis: the rate falls while Redis is slower than its floor allows, is
// held at the least one, and is found again where Redis is at its limit.
func TestPaceRedis(t *testing.T) {
	p, load := &Pace{Min: 300}, &fakeLoad{redis: time.Millisecond}
	paced(t, p, load, func(ctx context.Context) {
		sent(t, ctx, p, 10*time.Second)
		before := p.View().Rate
		load.set(func(f *fakeLoad) { f.redis = 7 * time.Millisecond })
		sent(t, ctx, p, 2*time.Second)
		v := p.View()
		if v.Rate > before/2 || v.Stopped || !strings.Contains(v.Reason, "Redis answers in 7ms, more than 5ms over its 1ms") {
			t.Errorf("before %.0f, now %+v", before, v)
		}
		sent(t, ctx, p, 20*time.Second)
		if rate := sent(t, ctx, p, 60*time.Second); rate < 250 || rate > 350 {
			t.Errorf("%.0f keys/s in the end", rate)
		}
		load.set(func(f *fakeLoad) { f.redisErr = errors.New("connection refused") })
		time.Sleep(300 * time.Millisecond)
		if rate := sent(t, ctx, p, 5*time.Second); rate != 0 || !strings.Contains(p.View().Reason, "connection refused") {
			t.Errorf("%.0f keys/s without Redis, %+v", rate, p.View())
		}
	})
}

// TestPaceSettles: against a Redis that slows down above 20,000 keys/s, the rate
// stays near it, and does not starve.
func TestPaceSettles(t *testing.T) {
	p, load := &Pace{}, &fakeLoad{redis: time.Millisecond}
	paced(t, p, load, func(ctx context.Context) {
		total := 0.0
		const rounds = 480
		for range rounds { // 4 minutes
			rate := sent(t, ctx, p, 500*time.Millisecond)
			load.set(func(f *fakeLoad) {
				f.redis = time.Millisecond
				if rate > 20_000 {
					f.redis = 20 * time.Millisecond
				}
			})
			total += rate
		}
		if mean := total / rounds; mean < 10_000 || mean > 22_000 {
			t.Errorf("%.0f keys/s", mean)
		}
	})
}

func TestPaceBacklog(t *testing.T) {
	p, load := &Pace{MaxBehind: 1000}, &fakeLoad{redis: time.Millisecond}
	paced(t, p, load, func(ctx context.Context) {
		sent(t, ctx, p, 2*time.Second)
		load.set(func(f *fakeLoad) { f.behind = 1001 })
		time.Sleep(300 * time.Millisecond)
		if rate := sent(t, ctx, p, 5*time.Second); rate != 0 || !strings.Contains(p.View().Reason, "1001 keys behind, more than 1000") {
			t.Errorf("%.0f keys/s, %+v", rate, p.View())
		}
		load.set(func(f *fakeLoad) { f.behind = 1000 })
		time.Sleep(300 * time.Millisecond)
		if rate := sent(t, ctx, p, 5*time.Second); rate < 1000 {
			t.Errorf("%.0f keys/s afterwards", rate)
		}
	})
}

// TestJudge: what comes first where several are in trouble.
func TestJudge(t *testing.T) {
	broken := errors.New("no route")
	for _, c := range []struct {
		name string
		s    signals
		want verdict
	}{
		{"well", signals{redis: 6 * time.Millisecond, floor: time.Millisecond, lag: time.Second, lagKnown: true, behind: 200_000}, verdict{}},
		{"live before all", signals{lag: 2 * time.Second, lagKnown: true, redisErr: broken, behind: 1 << 40}, verdict{stop: true, by: ByLive}},
		{"no pipeline", signals{lag: time.Hour, behind: -1}, verdict{}},
		{"redis gone", signals{redisErr: broken, behind: 1 << 40}, verdict{stop: true, by: ByRedis}},
		{"backlog", signals{redis: time.Second, behind: 200_001}, verdict{stop: true, by: ByBacklog}},
		{"second deletes", signals{redis: time.Second, owed: 10_000_001}, verdict{stop: true, by: ByBacklog}},
		{"second deletes, fewer", signals{owed: 10_000_000}, verdict{}},
		{"redis slow", signals{redis: 6001 * time.Microsecond, floor: time.Millisecond, lagErr: broken}, verdict{slow: true, by: ByRedis}},
		{"nobody tells the lag", signals{lagErr: broken}, verdict{slow: true, by: ByLive}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := new(Pace).judge(c.s)
			if (got.reason != "") != (c.want.by != "") {
				t.Errorf("reason %q", got.reason)
			}
			got.reason = ""
			if got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// TestPaceOfRows: what is read and makes few keys, or none, waits as well, in a
// replay and in a dry run, and does not go on while live deletes are late.
func TestPaceOfRows(t *testing.T) {
	chunks := make([]Chunk, 30)
	for i := range chunks {
		chunks[i].Rows = 10_000
		if i%3 == 0 {
			chunks[i].Events = []pipeline.Event{items(uuid+":1", i)}
		}
	}
	for name, do := range map[string]func(context.Context, *testing.T, *Pace) (int64, error){
		"replay": func(ctx context.Context, t *testing.T, p *Pace) (int64, error) {
			r := Run{Source: &chunksSource{&life{}, chunks}, Target: &slowTarget{}, State: openNew(t, 300_000), Schema: parse(t, itemRule), Pace: p}
			s, err := r.Do(ctx)
			return s.Rows, err
		},
		"dry run": func(ctx context.Context, t *testing.T, p *Pace) (int64, error) {
			c := Count{Source: &chunksSource{&life{}, chunks}, Schema: parse(t, itemRule), Dir: t.TempDir(), Pace: p}
			got, err := c.Do(ctx)
			return got.Rows, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				rows, err := do(t.Context(), t, &Pace{Max: 1000})
				if took := time.Since(began); err != nil || rows != 300_000 || took < 25*time.Second || took > 40*time.Second {
					t.Errorf("%d rows in %v at %d keys/s: %v", rows, took, 1000, err)
				}
				late := &fakeLoad{redis: time.Millisecond, lag: time.Minute, known: true}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				if rows, err = do(ctx, t, &Pace{Load: late}); err == nil || rows > 10_000 {
					t.Errorf("%d rows while live deletes are late: %v", rows, err)
				}
			})
		})
	}
}

// TestPaceEnds: a Wait ends with its context, with the cause.
func TestPaceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pace{Max: 1}
		if err := p.Wait(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := p.Wait(ctx, 1); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}
