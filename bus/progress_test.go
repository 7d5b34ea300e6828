package bus

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// setSource says its positions as sets.
type setSource struct{ *pipelinetest.Source }

func (setSource) GTIDSet(p pipeline.Position) string { return string(p) }

// progressSeen is how far the progress is that stands in each partition.
type progressSeen struct {
	mu   sync.Mutex
	at   map[string]int
	more chan struct{}
}

func (s *progressSeen) follow(ctx context.Context, p pipeline.Partition) error {
	c, _ := p.Cursors()
	for from := c.First; ; {
		f, err := p.Read(ctx, from)
		if err != nil {
			return err
		}
		from = f.Next
		for _, m := range f.Messages {
			e, err := pipeline.DecodeEvent(m.Data)
			if err != nil || e.Kind != pipeline.KindProgress {
				continue
			}
			n := 0
			if _, err := fmt.Sscanf(e.GTID, "src:%d", &n); err != nil {
				return err
			}
			s.mu.Lock()
			s.at[p.Name()] = n
			close(s.more)
			s.more = make(chan struct{})
			s.mu.Unlock()
		}
	}
}

// wait returns when every partition's progress holds the n-th transaction.
func (s *progressSeen) wait(t *testing.T, partitions, n int) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		s.mu.Lock()
		behind, more := partitions, s.more
		for _, at := range s.at {
			if at >= n {
				behind--
			}
		}
		s.mu.Unlock()
		if behind == 0 {
			return
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("no progress to src:%d in %d partitions", n, behind)
		}
	}
}

// TestProgressIsSoon measures how long after a commit every partition tells of
// it, which is most of what an application waits for its own writes.
func TestProgressIsSoon(t *testing.T) {
	schema, err := keys.Parse("shop.yaml", []byte(`{version: 1, keys: [{name: cart, table: shop.cart, key: "cart:{id}"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(t *testing.T) (pipeline.Publisher, pipeline.Positions, pipeline.Consumer){
		"embedded": func(t *testing.T) (pipeline.Publisher, pipeline.Positions, pipeline.Consumer) {
			e := openTest(t, EmbeddedConfig{})
			return e.Publisher(), e.Positions("shop"), e.Consumer("invalidator")
		},
		"kafka": func(t *testing.T) (pipeline.Publisher, pipeline.Positions, pipeline.Consumer) {
			k := openKafka(t, envtest.Kafka(t), 8, pipeline.Hooks{})
			return k.Publisher(), k.Positions("shop"), k.Consumer(k.config.Topic)
		},
	} {
		t.Run(name, func(t *testing.T) {
			publisher, positions, consumer := open(t)
			src := new(pipelinetest.Source)
			tailer := &pipeline.Tailer{Name: "shop", Schema: schema, Source: setSource{src}, Start: "src:0", Publisher: publisher, Positions: positions}
			seen := &progressSeen{at: map[string]int{}, more: make(chan struct{})}
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := tailer.Run(ctx); err != nil {
					t.Errorf("tailer: %v", err)
				}
			})
			wg.Go(func() {
				if err := consumer.Run(ctx, seen.follow); err != nil {
					t.Errorf("consumer: %v", err)
				}
			})
			defer wg.Wait()
			defer cancel()
			seen.wait(t, publisher.Partitions(), 0)
			t.Run("apart", func(t *testing.T) {
				delays(t, src, seen, publisher.Partitions(), func() time.Duration { return time.Duration(rand.IntN(400)) * time.Millisecond })
			})
			t.Run("busy", func(t *testing.T) {
				busy, stop := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() {
					tick := time.NewTicker(2 * time.Millisecond)
					defer tick.Stop()
					for busy.Err() == nil {
						src.Commit(cart())
						<-tick.C
					}
				})
				delays(t, src, seen, publisher.Partitions(), func() time.Duration { return time.Duration(rand.IntN(100)) * time.Millisecond })
				stop()
				wg.Wait()
			})
		})
	}
}

func cart() pipeline.Batch {
	row := pipeline.Row{After: []keys.Value{{Kind: keys.Number, Text: fmt.Sprint(rand.IntN(1000))}}}
	return pipeline.Batch{Tables: []pipeline.TableRows{{DB: "shop", Table: "cart", Columns: []string{"id"}, Rows: []pipeline.Row{row}}}}
}

func delays(t *testing.T, src *pipelinetest.Source, seen *progressSeen, partitions int, apart func() time.Duration) {
	var all []time.Duration
	for range 15 {
		<-time.After(apart()) // commits come when they come
		began, n := time.Now(), 0
		if _, err := fmt.Sscanf(src.Commit(cart()), "src:%d", &n); err != nil {
			t.Fatal(err)
		}
		seen.wait(t, partitions, n)
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	t.Logf("commit to progress in %d partitions: p50 %v, p90 %v, max %v", partitions, all[7], all[13], all[14])
	if all[7] > 500*time.Millisecond {
		t.Errorf("half of the commits took longer than %v", all[7])
	}
}
