package bus

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// reopen closes a log and opens its folder again.
func reopen(t *testing.T, e *Embedded) *Embedded {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return openTest(t, e.config)
}

func TestEmbeddedLostTailIsAGap(t *testing.T) {
	for _, lost := range []string{"removed", "cut off"} {
		t.Run(lost, func(t *testing.T) {
			e := openTest(t, EmbeddedConfig{})
			publishAll(t, e.Publisher(), "a", "b", "c")
			for _, name := range []string{"one", "two"} {
				owned(t, e.Consumer(name), func(ctx context.Context, p pipeline.Partition) {
					if err := p.Store(ctx, pipeline.Cursors{First: 2, Second: 1}); err != nil {
						t.Error(err)
					}
				})
			}
			if err := e.Positions("shop").Save(t.Context(), pipeline.Checkpoint{Position: "p"}); err != nil {
				t.Fatal(err)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			path := segmentPath(e.config.Dir, 0)
			err := os.Remove(path)
			if lost == "cut off" {
				err = os.WriteFile(path, []byte("not a segment"), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			e = openTest(t, e.config)
			// New records take the lost ones' offsets; that must not hide the loss.
			publishAll(t, e.Publisher(), "x", "y", "z", "z")
			e = reopen(t, e)
			for _, name := range []string{"one", "two"} {
				owned(t, e.Consumer(name), func(ctx context.Context, p pipeline.Partition) {
					c, gap := p.Cursors()
					if c != (pipeline.Cursors{}) || !strings.Contains(gap, "incarnation") {
						t.Errorf("%s: cursors %+v, gap %q", name, c, gap)
					}
				})
			}
			// "one" has seen the gap and stores; "two" still sees it.
			owned(t, e.Consumer("one"), func(ctx context.Context, p pipeline.Partition) {
				if err := p.Store(ctx, pipeline.Cursors{First: 1, Second: 1}); err != nil {
					t.Error(err)
				}
			})
			e = reopen(t, e)
			for name, want := range map[string]bool{"one": false, "two": true} {
				owned(t, e.Consumer(name), func(_ context.Context, p pipeline.Partition) {
					if _, gap := p.Cursors(); (gap != "") != want {
						t.Errorf("%s: gap %q", name, gap)
					}
				})
			}
			c, err := e.Positions("shop").Load(t.Context())
			if err != nil || c.Position != "p" || !strings.Contains(c.Pending, "lost") {
				t.Errorf("checkpoint %+v, %v", c, err)
			}
			if err := e.Positions("shop").Save(t.Context(), pipeline.Checkpoint{Position: "q"}); err != nil {
				t.Fatal(err)
			}
			if c, err := e.Positions("shop").Load(t.Context()); err != nil || c != (pipeline.Checkpoint{Position: "q"}) {
				t.Errorf("checkpoint %+v, %v", c, err)
			}
		})
	}
}

// TestEmbeddedCursorsWaitForTheDisk has a disk that cannot be written: records
// are read at once, but no cursor passes them, and done is not called.
func TestEmbeddedCursorsWaitForTheDisk(t *testing.T) {
	retried := make(chan string, 100)
	e := openTest(t, EmbeddedConfig{MemoryTail: 20_000, Hooks: pipeline.Hooks{Retry: func(op string, _ int, err error, _ time.Duration) {
		retried <- fmt.Sprint(op, ": ", err)
	}}})
	publishAll(t, e.Publisher(), "a")
	good := e.disk.dir
	e.disk.mu.Lock()
	e.disk.dir, e.disk.bytes = filepath.Join(good, "missing"), 1 // the next segment cannot be made
	e.disk.mu.Unlock()
	done := make(chan error, 1)
	if err := e.Publisher().Publish(t.Context(), []pipeline.Record{{Data: []byte("b")}}, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if r := <-retried; !strings.Contains(r, "missing") {
		t.Errorf("retry: %s", r)
	}
	owned(t, e.Consumer("c"), func(ctx context.Context, p pipeline.Partition) {
		f, err := p.Read(ctx, 0)
		if err != nil || f.Next != 2 {
			t.Errorf("read %+v, %v", f, err)
		}
		if err := p.Store(ctx, pipeline.Cursors{First: 2, Second: 2}); err != nil {
			t.Error(err)
		}
	})
	owned(t, e.Consumer("c"), func(_ context.Context, p pipeline.Partition) {
		if c, gap := p.Cursors(); c != (pipeline.Cursors{First: 1, Second: 1}) || gap != "" {
			t.Errorf("cursors %+v, gap %q", c, gap)
		}
	})
	// The buffer fills up, and then Publish waits.
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var err error
	for range 100 {
		if err = e.Publisher().Publish(ctx, []pipeline.Record{{Data: make([]byte, 1000)}}, func(error) {}); err != nil {
			break
		}
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("publish into a full buffer: %v", err)
	}
	select {
	case err := <-done:
		t.Errorf("done was called: %v", err)
	default:
	}
	e.disk.mu.Lock()
	e.disk.dir = good
	e.disk.mu.Unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestEmbeddedRetention(t *testing.T) {
	e := openTest(t, EmbeddedConfig{MemoryTail: 1, RetainBytes: 3000})
	e.disk.bytes = 500
	fill := func(n int) {
		for range n {
			publishAll(t, e.Publisher(), rand.Text()+rand.Text()+rand.Text()+rand.Text()+rand.Text()+rand.Text()) // 156 bytes
		}
	}
	fill(100)
	if start, end := e.Bounds(); start != 0 || end != 100 {
		t.Errorf("nobody has read, and the log has [%d, %d)", start, end)
	}
	store := func(name string, at int64) {
		owned(t, e.Consumer(name), func(ctx context.Context, p pipeline.Partition) {
			if err := p.Store(ctx, pipeline.Cursors{First: at, Second: at}); err != nil {
				t.Error(err)
			}
		})
	}
	store("fast", 100)
	store("slow", 40)
	fill(10)
	if start, _ := e.Bounds(); start < 20 || start > 40 {
		t.Errorf("the slow consumer is at 40, the log begins at %d", start)
	}
	store("slow", 110)
	fill(10)
	start, end := e.Bounds()
	if start < 80 || end-start < 12 {
		t.Errorf("3,000 bytes are to be kept, and the log has [%d, %d)", start, end)
	}
	owned(t, e.Consumer("new"), func(ctx context.Context, p pipeline.Partition) {
		if c, gap := p.Cursors(); c.First != start || c.Second != start || !strings.Contains(gap, "dropped unread") {
			t.Errorf("a new consumer: cursors %+v, gap %q", c, gap)
		}
		_, err := p.Read(ctx, 10)
		if lost, ok := errors.AsType[*pipeline.LogGapError](err); !ok || lost.Start != start {
			t.Errorf("read what is dropped: %v", err)
		}
	})
}

func TestEmbeddedDamagedBlockIsAGap(t *testing.T) {
	e := openTest(t, EmbeddedConfig{})
	publishAll(t, e.Publisher(), "first")
	publishAll(t, e.Publisher(), "damaged, uncompressed")
	e.disk.bytes = 1
	publishAll(t, e.Publisher(), "third")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	path := segmentPath(e.config.Dir, 0)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The pages of former commits hold copies of the block.
	damaged := strings.ReplaceAll(string(data), "damaged, uncompressed", "damaged, Uncompressed")
	if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
		t.Fatal(err)
	}
	e = openTest(t, e.config)
	owned(t, e.Consumer("c"), func(ctx context.Context, p pipeline.Partition) {
		f, err := p.Read(ctx, 0)
		if err != nil || len(f.Messages) != 1 || string(f.Messages[0].Data) != "first" {
			t.Errorf("read before the damage: %d records, %v", len(f.Messages), err)
		}
		_, err = p.Read(ctx, 1)
		if lost, ok := errors.AsType[*pipeline.LogGapError](err); !ok || lost.Start != 2 {
			t.Errorf("read the damage: %v", err)
		}
		if f, err := p.Read(ctx, 2); err != nil || string(f.Messages[0].Data) != "third" {
			t.Errorf("read behind the damage: %v", err)
		}
	})
}

func TestEmbeddedDeadLetters(t *testing.T) {
	e := openTest(t, EmbeddedConfig{})
	path := filepath.Join(e.config.Dir, "dead.jsonl")
	for i := range 2 {
		letter := pipeline.DeadLetter{Partition: "p", Offset: int64(i), Reason: "why", Data: []byte("data\n")}
		if err := e.DeadLetters().Add(t.Context(), letter); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(data, `{"partition":"torn`...), 0o600); err != nil {
		t.Fatal(err)
	}
	e = openTest(t, e.config)
	if err := e.DeadLetters().Add(t.Context(), pipeline.DeadLetter{Offset: 2}); err != nil {
		t.Fatal(err)
	}
	data, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	for i, line := range lines {
		var letter pipeline.DeadLetter
		if err := json.Unmarshal([]byte(line), &letter); err != nil || letter.Offset != int64(i) {
			t.Errorf("line %d is %s: %v", i, line, err)
		}
	}
	if len(lines) != 3 {
		t.Errorf("%d lines, want 3", len(lines))
	}
}

func TestEmbeddedConsumerNameRunsOnce(t *testing.T) {
	e := openTest(t, EmbeddedConfig{})
	owned(t, e.Consumer("c"), func(ctx context.Context, _ pipeline.Partition) {
		if err := e.Consumer("c").Run(ctx, nil); err == nil || !strings.Contains(err.Error(), "already running") {
			t.Errorf("a second consumer of the name: %v", err)
		}
	})
}
