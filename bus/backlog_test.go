package bus

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

func TestBehind(t *testing.T) {
	const out = `{"readers":{"a":{},"b":{"server":"x","out":2}}}`
	for _, c := range []struct {
		name          string
		at            pipeline.Cursors
		start, end    int64
		first, second int64
	}{
		{"nothing stored, nothing there", pipeline.Cursors{}, 0, 0, 0, 0},
		{"nothing stored", pipeline.Cursors{}, 0, 4, 4, 4},
		{"nothing stored, the beginning dropped", pipeline.Cursors{}, 3, 4, 1, 1},
		{"nothing stored, all dropped", pipeline.Cursors{}, 4, 4, 1, 1},
		{"on the way", pipeline.Cursors{First: 3, Second: 1}, 0, 4, 1, 3},
		{"at the end", pipeline.Cursors{First: 4, Second: 4, Marks: `{"readers":{"a":{}},"past":""}`}, 2, 4, 0, 0},
		{"dropped before the second pass", pipeline.Cursors{First: 4, Second: 1}, 4, 4, 0, 1},
		{"dropped before both", pipeline.Cursors{First: 2, Second: 1}, 4, 9, 5, 5},
		{"of another log", unfit, 0, 0, 1, 1},
		{"a reader is out", pipeline.Cursors{First: 4, Second: 4, Marks: out}, 0, 4, 0, 1},
		{"a reader is out, and more to do", pipeline.Cursors{First: 4, Second: 1, Marks: out}, 0, 4, 0, 3},
		{"marks of which nobody knows what they say", pipeline.Cursors{First: 4, Second: 4, Marks: `{"readers":[]}`}, 0, 4, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if first, second := behind(c.at, c.start, c.end); first != c.first || second != c.second {
				t.Errorf("%d and %d behind, want %d and %d", first, second, c.first, c.second)
			}
		})
	}
}

const server = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

// TestBacklogOfAReader: whoever asks for nothing but the backlog learns of second
// deletes that are owed to a reader, however fast it comes back, and also before
// anything has begun to run again.
func TestBacklogOfAReader(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%t", restart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := openTest(t, EmbeddedConfig{Retain: time.Hour})
				reader := pipelinetest.NewServer("r", server+":1-9")
				source := pipelinetest.NewServer("source", server+":1-10")
				redis := pipelinetest.NewRedis()
				stop := invalidates(t, e, source, reader, redis)
				record := `{"v":1,"kind":"changes","source":"shop","gtid":"` + server +
					`:10","seq":0,"tables":[{"db":"shop","table":"item","columns":["id"],"rows":[{"after":[1]}]}]}`
				publishAll(t, e.Publisher(), record)
				time.Sleep(time.Minute) // the reader is put out, and all is deleted twice without it
				wantBacklog(t, "a reader is out", e, "replay", 0, 1)
				if restart {
					stop()
					e = reopen(t, e)
					wantBacklog(t, "and nothing runs", e, "replay", 0, 1)
					stop = invalidates(t, e, source, reader, redis)
					time.Sleep(time.Minute)
					wantBacklog(t, "and it runs again", e, "replay", 0, 1)
				}
				redis.Set("item:1", "old, of the reader")
				reader.Show(server + ":1-10")
				for until := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
					first, second, err := e.Backlog(t.Context(), "replay")
					if err != nil || time.Now().After(until) {
						t.Fatalf("%d and %d behind, %v", first, second, err)
					}
					if first == 0 && second == 0 {
						break
					}
				}
				if n := len(redis.Keys()); n != 0 {
					t.Error("nothing was said to be owed before the second delete")
				}
				stop()
			})
		})
	}
}

// invalidates runs an invalidator that waits 5 s for a reader, with a fill of 1 s.
func invalidates(t *testing.T, e *Embedded, source, reader pipeline.Reader, redis pipeline.Deleter) (stop func()) {
	t.Helper()
	schema, err := keys.Parse("keys.yaml", []byte("version: 1\nkeys:\n  - {name: item, table: shop.item, key: 'item:{id}'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	readers := &pipeline.Readers{Source: source, Servers: []pipeline.Reader{reader}, MaxWait: 5 * time.Second}
	inv := &pipeline.Invalidator{
		Schema: schema, Deleter: redis, DeadLetters: e.DeadLetters(), Fill: time.Second, Fallback: 30 * time.Second, Readers: readers,
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{readers.Run, func(ctx context.Context) error { return inv.Run(ctx, e.Consumer("replay")) }} {
		wg.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}
