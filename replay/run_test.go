package replay

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// slowTarget takes a time for each call, in a bubble.
type slowTarget struct {
	takes   time.Duration
	mu      sync.Mutex
	calls   int
	backlog func() (Backlog, error)
}

func (s *slowTarget) Publish(ctx context.Context, _ []pipeline.Event) error {
	if err := sleep(ctx, s.takes); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	return nil
}

func (s *slowTarget) Backlog(context.Context) (Backlog, error) {
	if s.backlog == nil {
		return Backlog{}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.backlog()
}

func (s *slowTarget) done() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func openNew(t *testing.T, rows int64) *State {
	t.Helper()
	s, err := CreateState(t.TempDir(), Job{Kind: "table", Fixed: json.RawMessage(`{}`), Rows: rows})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func someChunks(n int) (all []Chunk) {
	for i := range n {
		all = append(all, Chunk{Rows: 2, Events: []pipeline.Event{items(uuid+":1", 2*i, 2*i+1)}})
	}
	return all
}

// TestRunPaced: while live deletes are late a Run publishes nothing, says why, and
// counts the time.
func TestRunPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		load, target := &fakeLoad{redis: time.Millisecond, lag: 5 * time.Second, known: true}, new(slowTarget)
		var mu sync.Mutex
		var last Progress
		r := &Run{
			Source: &chunksSource{new(life), someChunks(5)}, Target: target, State: openNew(t, 10), Schema: parse(t, itemRule),
			Pace: &Pace{Load: load}, Progress: func(p Progress) { mu.Lock(); last = p; mu.Unlock() },
		}
		var sum Summary
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { sum, err = r.Do(t.Context()) })
		time.Sleep(time.Minute)
		mu.Lock()
		p := last
		mu.Unlock()
		if target.done() != 0 || !p.Pace.Stopped || !strings.Contains(p.Pace.Reason, "live deletes are 5s late") || p.Total != 10 || p.Phase != Reading {
			t.Errorf("%d published, %+v", target.done(), p)
		}
		load.set(func(f *fakeLoad) { f.lag = 0 })
		wg.Wait()
		if err != nil || target.done() != 5 || sum.PacedSeconds[ByLive] < 58 || sum.Seconds < 60 || sum.Keys != 10 {
			t.Errorf("%+v, %v", sum, err)
		}
		if last.Phase != Done || last.Done != 1 {
			t.Errorf("in the end %+v", last)
		}
	})
}

// TestRunStuck: where the log takes nothing, a Run that is stopped leaves the chunk
// after a while, and it is counted as done again.
func TestRunStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openNew(t, -1)
		r := &Run{Source: &chunksSource{new(life), someChunks(5)}, Target: &slowTarget{takes: time.Hour}, State: s, Schema: parse(t, itemRule)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		sum, err := r.Do(ctx)
		if took := time.Since(began); !errors.Is(err, ErrStopped) || sum.Result != "stopped" || took != time.Minute+lastChunk {
			t.Errorf("%+v, %v after %s", sum, err, took)
		}
		again := &Run{Source: r.Source, Target: new(slowTarget), State: s, Schema: r.Schema}
		if sum, err := again.Do(t.Context()); err != nil || sum.ChunksRedone != 1 || sum.Chunks != 5 {
			t.Errorf("%+v, %v", sum, err)
		}
	})
}

// TestRunFinishes: a chunk that is being published when the context ends is
// finished and stored.
func TestRunFinishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := &slowTarget{takes: 4 * time.Second}
		r := &Run{Source: &chunksSource{new(life), someChunks(5)}, Target: target, State: openNew(t, -1), Schema: parse(t, itemRule)}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		sum, err := r.Do(ctx)
		if !errors.Is(err, ErrStopped) || sum.Chunks != 2 || target.done() != 2 || r.State.Cursor() != "2" || r.State.Open {
			t.Errorf("%+v, %v, %d published", sum, err, target.done())
		}
	})
}

// TestRunDrains: a Run ends when both passes are at the log's end, whatever goes
// wrong with asking for it.
func TestRunDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, asked := time.Now(), 0
		target := &slowTarget{backlog: func() (Backlog, error) {
			asked++
			switch at := time.Since(began); {
			case asked%3 == 0:
				return Backlog{}, errors.New("no route")
			case at < 20*time.Second:
				return Backlog{First: 5, Second: 9}, nil
			case at < 40*time.Second:
				return Backlog{Second: 4}, nil
			}
			return Backlog{}, nil
		}}
		retries := 0
		r := &Run{
			Source: &chunksSource{new(life), someChunks(1)}, Target: target, State: openNew(t, -1), Schema: parse(t, itemRule),
			Hooks: pipeline.Hooks{Retry: func(string, int, error, time.Duration) { retries++ }},
		}
		sum, err := r.Do(t.Context())
		if took := time.Since(began); err != nil || sum.Phase != Done || took < 40*time.Second || took > 45*time.Second || retries == 0 {
			t.Errorf("%+v, %v after %s, %d retries", sum, err, took, retries)
		}
	})
}

// TestRunReadDone: whoever opened the source hears that it is not needed any more
// before the passes are waited for; a Run that goes on behind that needs none.
func TestRunReadDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, read, drains := openNew(t, -1), 0, false
		target := &slowTarget{backlog: func() (Backlog, error) { return Backlog{Second: 1}, nil }}
		r := &Run{
			Source: &chunksSource{new(life), someChunks(3)}, Target: target, State: s, Schema: parse(t, itemRule),
			ReadDone: func() { read, drains = read+1, s.Phase() == Draining && target.done() == 3 },
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if sum, err := r.Do(ctx); !errors.Is(err, ErrStopped) || sum.Phase != Draining || read != 1 || !drains {
			t.Errorf("%+v, %v; told %d times, in time %t", sum, err, read, drains)
		}
		letters := int64(0)
		again := &Run{
			Target: new(slowTarget), State: s, Schema: r.Schema, ReadDone: r.ReadDone,
			Drained: func(context.Context) { letters = 7 }, DeadLetters: func() int64 { return letters },
		}
		if sum, err := again.Do(t.Context()); err != nil || sum.Phase != Done || sum.Chunks != 3 || sum.DeadLetters != 7 || read != 1 {
			t.Errorf("%+v, %v; told %d times", sum, err, read)
		}
	})
}

// TestTimeLeft: the estimate comes from what went lately.
func TestTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []Progress
		r := &Run{
			Source: &chunksSource{new(life), someChunks(100)}, Target: &slowTarget{takes: time.Second}, State: openNew(t, -1), Schema: parse(t, itemRule),
			Progress: func(p Progress) { seen = append(seen, p) },
		}
		if _, err := r.Do(t.Context()); err != nil {
			t.Fatal(err)
		}
		half := seen[len(seen)/2]
		if half.Left < 45*time.Second || half.Left > 55*time.Second || half.Rate < 1.8 || half.Rate > 2.2 || half.Total != -1 {
			t.Errorf("half way: %+v", half)
		}
	})
}
