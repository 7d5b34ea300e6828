package replay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
	"github.com/doubletap-cdc/doubletap/replay"
)

// passes remembers which keys each pass has handled.
type passes struct {
	mu sync.Mutex
	of map[pipeline.Pass]map[string]bool
}

func (p *passes) deleted(d pipeline.DeletedInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range d.Keys {
		p.of[d.Pass][k] = true
	}
}

// handled returns how many passes have handled a key.
func (p *passes) handled(key string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, keys := range p.of {
		if keys[key] {
			n++
		}
	}
	return n
}

// filled returns a Redis with the keys of so many rows, by both schemas.
func filled(rows int) *pipelinetest.Redis {
	redis := pipelinetest.NewRedis()
	for id := range rows {
		redis.Set(fmt.Sprint("item:", id), "stale")
		redis.Set(fmt.Sprint("old:", id), "stale")
	}
	return redis
}

// TestRoad replays rows through an embedded log and an invalidator: when Do
// returns, both passes have handled every key, those of the old schema too, and no other is
// deleted.
func TestRoad(t *testing.T) {
	const rows = 12_000
	today, err := keys.Parse("keys.yaml", []byte(itemSchema))
	if err != nil {
		t.Fatal(err)
	}
	old, err := keys.Parse("old.yaml", []byte(strings.ReplaceAll(itemSchema, "item:{id}", "old:{id}")))
	if err != nil {
		t.Fatal(err)
	}
	redis := filled(rows + 10)
	dir := t.TempDir()
	log, err := bus.OpenEmbedded(bus.EmbeddedConfig{Dir: filepath.Join(dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	inv := &pipeline.Invalidator{Schema: today, Deleter: redis, DeadLetters: log.DeadLetters(), Fill: 50 * time.Millisecond, StoreEvery: 20 * time.Millisecond}
	seen := passes{of: map[pipeline.Pass]map[string]bool{pipeline.First: {}, pipeline.Second: {}}}
	inv.Hooks.Deleted = seen.deleted
	wg.Go(func() {
		if err := inv.Run(ctx, log.Consumer("replay")); err != nil {
			t.Error(err)
		}
	})
	state, err := replay.CreateState(filepath.Join(dir, "replay"), replay.Job{Kind: "table", Fixed: json.RawMessage(`{}`), Rows: rows})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = state.Close() }()
	var last replay.Progress
	r := &replay.Run{
		Source: walk{rows: rows, chunk: 5000}, State: state, Schema: today, Old: old, Pace: &replay.Pace{MaxBehind: 3000, Every: 20 * time.Millisecond},
		Target: replay.NewTarget(log.Publisher(), func(ctx context.Context) (b replay.Backlog, err error) {
			b.First, b.Second, err = log.Backlog(ctx, "replay")
			return b, err
		}),
		Progress: func(p replay.Progress) { last = p },
	}
	sum, err := r.Do(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for id := range rows {
		for _, key := range []string{fmt.Sprint("item:", id), fmt.Sprint("old:", id)} {
			if n := seen.handled(key); n < 2 {
				t.Fatalf("%s was handled by %d passes", key, n)
			}
		}
	}
	if left := redis.Keys(); len(left) != 20 {
		t.Errorf("%d keys are left, want the 20 that no row names", len(left))
	}
	if sum.Result != "done" || sum.Keys != 2*rows || sum.Rows != rows || sum.Chunks != 3 || sum.Records == 0 || sum.Bytes < 10*rows || sum.KeysPerSecond <= 0 {
		t.Errorf("%+v", sum)
	}
	if last.Phase != replay.Done || last.Keys != 2*rows || last.Backlog != (replay.Backlog{}) {
		t.Errorf("%+v", last)
	}
}
