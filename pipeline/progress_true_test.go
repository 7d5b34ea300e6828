package pipeline_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// judgingPublisher checks each progress record when it is handed over: all that
// it says, and the whole invalidation that was owed, must have been acknowledged.
type judgingPublisher struct {
	pipeline.Publisher
	w *progressWorld
}

func (p judgingPublisher) Publish(ctx context.Context, records []pipeline.Record, done func(error)) error {
	w := p.w
	if isProgress(records[0].Data) {
		w.judge(records)
	}
	return p.Publisher.Publish(ctx, records, func(err error) {
		if err == nil {
			w.acknowledged(records)
		}
		done(err)
	})
}

// progressWorld is a world of which only tailers live.
type progressWorld struct {
	*world
	mu      sync.Mutex
	durable map[string]map[string]bool // GTID → keys
	owed    bool
	rounds  int
}

func (w *progressWorld) acknowledged(records []pipeline.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range records {
		e, err := pipeline.DecodeEvent(r.Data)
		if err != nil {
			w.t.Fatal(err)
		}
		w.owed = w.owed && len(e.Scopes) == 0
		if w.durable[e.GTID] == nil {
			w.durable[e.GTID] = map[string]bool{}
		}
		for _, k := range keysOf(e.Tables) {
			w.durable[e.GTID][k] = true
		}
	}
}

func (w *progressWorld) judge(records []pipeline.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rounds++
	if len(records) != w.parts {
		w.t.Errorf("a round of %d records for %d partitions", len(records), w.parts)
	}
	if w.owed {
		w.t.Error("progress before the whole invalidation that is owed")
	}
	for i, r := range records {
		e, err := pipeline.DecodeEvent(r.Data)
		if err != nil || r.Partition != i || e.Partition != i || e.Partitions != w.parts {
			w.t.Errorf("record %d is %+v, %v", i, e, err)
			continue
		}
		for n := 1; n <= setNumber(w.t, e.GTID); n++ {
			gtid := fmt.Sprintf("src:%d", n)
			for _, k := range w.h.expected[gtid] {
				if !w.durable[gtid][k] {
					w.t.Errorf("progress %s, but %s of %s is not durable", e.GTID, k, gtid)
				}
			}
		}
	}
}

// inOrder checks the log: before a progress record, its partition holds whatever
// it ever gets of the transactions in the set.
func (w *progressWorld) inOrder() {
	for p := range w.parts {
		first := map[string]int{} // GTID and key → place
		progress := map[int]int{} // place → number of the newest transaction
		for i, m := range w.log.Records(p) {
			e, err := pipeline.DecodeEvent(m.Data)
			if err != nil {
				w.t.Fatal(err)
			}
			if e.Kind == pipeline.KindProgress {
				progress[i] = setNumber(w.t, e.GTID)
			}
			for _, k := range keysOf(e.Tables) {
				if _, ok := first[e.GTID+" "+k]; !ok {
					first[e.GTID+" "+k] = i
				}
			}
		}
		for id, at := range first {
			gtid, _, _ := strings.Cut(id, " ")
			for place, n := range progress {
				if setNumber(w.t, gtid) <= n && place < at {
					w.t.Errorf("partition %d: progress src:%d at %d is before %s at %d", p, n, place, id, at)
				}
			}
		}
	}
}

// live runs a tailer until it dies or has told of everything.
func (w *progressWorld) live(proc, dieAt int, after bool) (ops int) {
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	l := &life{proc: proc, h: w.h, kill: cancel, dieAt: dieAt, after: after}
	if w.flaky {
		l.flaky = rand.New(rand.NewPCG(uint64(proc), uint64(dieAt)))
	}
	tailer := &pipeline.Tailer{
		Name: "shop", Schema: w.schema, Source: setSource{w.src}, Gate: new(pipelinetest.Gate), Start: "src:0",
		Publisher: mortalPublisher{l, judgingPublisher{w.log.Publisher(), w}}, Positions: mortalPositions{l, w.log.Positions()},
	}
	done := make(chan error, 1)
	go func() { done <- tailer.Run(ctx) }()
	for n := 0; !l.isDead() && !w.told(); n++ {
		if n > 10_000 {
			w.t.Fatalf("process %d does not get to the end", proc)
		}
		if len(w.work) > 0 && w.rand.IntN(3) == 0 {
			w.mu.Lock()
			w.commit()
			w.mu.Unlock()
		}
		time.Sleep(time.Duration(1+w.rand.IntN(60)) * time.Millisecond)
	}
	l.mu.Lock()
	ops = l.ops
	l.mu.Unlock()
	cancel()
	if err := <-done; err != nil {
		w.t.Errorf("tailer: %v", err)
	}
	return ops
}

// told says that every partition ends with the progress of all that there is.
func (w *progressWorld) told() bool {
	if len(w.work) > 0 {
		return false
	}
	for p := range w.parts {
		records := w.log.Records(p)
		if len(records) == 0 {
			return false
		}
		e, err := pipeline.DecodeEvent(records[len(records)-1].Data)
		if err != nil || e.Kind != pipeline.KindProgress || e.GTID != fmt.Sprintf("src:%d", w.total) {
			return false
		}
	}
	return true
}

// TestProgressIsTrue stops a tailer at every operation in turn, before and after
// its effect, and lets others go on, of which the second dies as well.
func TestProgressIsTrue(t *testing.T) {
	s := schema(t)
	for _, seed := range []uint64{1, 2, 3, rand.Uint64()} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("seed=%d,after=%v", seed, after), func(t *testing.T) {
				n := 1
				for reached := true; reached && !t.Failed(); n++ {
					bubble(t, func(t *testing.T) {
						w := &progressWorld{world: newWorld(t, s, seed), durable: map[string]map[string]bool{}, owed: true}
						reached = w.live(1, n, after) >= n
						w.live(2, n/2+1, !after)
						w.live(3, 0, false)
						settle() // acknowledgements that nobody waits for any more
						w.inOrder()
						if w.rounds == 0 {
							t.Error("no progress at all")
						}
					})
				}
				if n < 10 {
					t.Errorf("only %d operations", n)
				}
			})
		}
	}
}
