package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// storing runs a consumer that reads everything and stores its cursors, and
// counts the records of each partition that it has passed.
func storing(t *testing.T, k *Kafka, stored func(partition string, c pipeline.Cursors)) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- k.Consumer(k.config.Topic).Run(ctx, func(ctx context.Context, p pipeline.Partition) error {
			c, gap := p.Cursors()
			if gap != "" {
				t.Errorf("%s: gap %q", p.Name(), gap)
			}
			for ctx.Err() == nil {
				f, err := p.Read(ctx, c.First)
				if err != nil {
					if _, lost := errors.AsType[*pipeline.LogGapError](err); lost {
						t.Errorf("%s: %v", p.Name(), err)
					}
					pause(ctx, 100*time.Millisecond)
					continue
				}
				c = pipeline.Cursors{First: f.Next, Second: f.Next}
				if err := p.Store(ctx, c); err == nil {
					stored(p.Name(), c)
				} else if errors.Is(err, pipeline.ErrFenced) {
					return nil
				}
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("consumer: %v", err)
		}
	})
}

// stores is told of stored cursors, and waits for them.
type stores struct {
	mu    sync.Mutex
	first map[string]int64
	moved notifier
}

func (s *stores) store(partition string, c pipeline.Cursors) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first == nil {
		s.first = map[string]int64{}
	}
	s.first[partition] = c.First
	s.moved.tell()
}

// reached waits until the cursors of all partitions stand at the log's end.
func (s *stores) reached(t *testing.T, k *Kafka) {
	t.Helper()
	deadline := time.After(90 * time.Second)
	for part := range k.config.Partitions {
		_, end, err := k.bounds(t.Context(), k.config.Topic, part)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%s/%d", k.config.Topic, part)
		s.mu.Lock()
		for s.first[name] < end {
			moved := s.moved.wait()
			s.mu.Unlock()
			select {
			case <-moved:
			case <-deadline:
				t.Fatalf("%s: cursors are stored up to %d of %d", name, s.first[name], end)
			}
			s.mu.Lock()
		}
		s.mu.Unlock()
	}
}
