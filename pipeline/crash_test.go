package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// world is a source, a log and a Redis that outlive the processes, and a
// workload made from a seed.
type world struct {
	t      *testing.T
	rand   *rand.Rand
	schema *keys.Schema
	src    *pipelinetest.Source
	log    *pipelinetest.Log
	redis  *pipelinetest.Redis
	h      *history
	parts  int
	work   [][]pipeline.Batch // transactions still to be committed
	total  int
	memory int
	flaky  bool
	fleet  *fleet // of readers; nil without
}

func newWorld(t *testing.T, s *keys.Schema, seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 7))
	w := &world{
		t: t, rand: r, schema: s, src: new(pipelinetest.Source), redis: pipelinetest.NewRedis(),
		h:     &history{fill: 2 * time.Second, expected: map[string][]string{}},
		parts: 1 + r.IntN(3), memory: 1 + r.IntN(4000), flaky: seed&2 != 0,
	}
	w.log = pipelinetest.NewLog(w.parts)
	if seed&1 != 0 { // acknowledgements come late and out of order
		var mu sync.Mutex
		r := rand.New(rand.NewPCG(seed, 8))
		w.log.Ack = func(ack func()) {
			mu.Lock()
			late := time.Duration(r.IntN(50)) * time.Millisecond
			mu.Unlock()
			go func() {
				time.Sleep(late)
				ack()
			}()
		}
	}
	for range 4 + r.IntN(6) {
		w.work = append(w.work, w.transaction(r))
	}
	w.total = len(w.work)
	w.cutOff(r.IntN(3))
	return w
}

// transaction makes one without rows, a small one, or a large one in pieces.
func (w *world) transaction(r *rand.Rand) []pipeline.Batch {
	piece := func() pipeline.Batch {
		var ids []int
		for range 1 + r.IntN(4) {
			ids = append(ids, r.IntN(6))
		}
		if r.IntN(2) == 0 {
			return carts(ids...)
		}
		return items(r.IntN(3), r.IntN(3), ids...)
	}
	switch r.IntN(4) {
	case 0:
		return nil
	case 1:
		return []pipeline.Batch{piece(), {}, piece(), piece()}
	default:
		return []pipeline.Batch{piece()}
	}
}

// cutOff makes the connection break n times in the middle of a transaction.
func (w *world) cutOff(n int) {
	w.src.Fail = func(op, _ string) error {
		if op == "batch" && n > 0 {
			n--
			return errors.New("connection lost")
		}
		return nil
	}
}

func (w *world) commit() {
	pieces := w.work[0]
	w.work = w.work[1:]
	gtid := w.src.Commit(pieces...)
	for _, p := range pieces {
		w.h.expected[gtid] = append(w.h.expected[gtid], keysOf(p.Tables)...)
	}
}

// live runs a process until it dies or all is done. It returns how many
// operations the process made.
func (w *world) live(proc, dieAt int, after bool) (ops int) {
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	l := &life{proc: proc, h: w.h, kill: cancel, dieAt: dieAt, after: after}
	if w.flaky {
		l.flaky = rand.New(rand.NewPCG(uint64(proc), uint64(dieAt)))
	}
	tailer := &pipeline.Tailer{
		Name: "shop", Schema: w.schema, Source: w.source(), Gate: new(pipelinetest.Gate), Start: "src:0",
		Publisher: mortalPublisher{l, w.log.Publisher()}, Positions: mortalPositions{l, w.log.Positions()},
	}
	inv := &pipeline.Invalidator{
		Schema: w.schema, Deleter: mortalDeleter{l, w.redis}, DeadLetters: w.log.DeadLetters(),
		Fill: w.h.fill, Memory: w.memory,
	}
	var wg sync.WaitGroup
	if w.fleet != nil {
		inv.Readers, inv.Fallback = w.fleet.watch(), w.h.fill
		wg.Go(func() {
			if err := inv.Readers.Run(ctx); err != nil {
				w.t.Errorf("readers: %v", err)
			}
		})
	}
	wg.Go(func() {
		if err := tailer.Run(ctx); err != nil {
			w.t.Errorf("tailer: %v", err)
		}
	})
	wg.Go(func() {
		if err := inv.Run(ctx, mortalConsumer{l, w.log.Consumer()}); err != nil {
			w.t.Errorf("invalidator: %v", err)
		}
	})
	w.wait(l)
	l.mu.Lock()
	ops = l.ops
	l.mu.Unlock()
	cancel()
	wg.Wait()
	return ops
}

// wait commits the rest of the work until the process is dead or done.
func (w *world) wait(l *life) {
	for n := 0; !l.isDead(); n++ {
		if n > 10_000 {
			w.t.Fatalf("no end after %d operations of process %d", l.ops, l.proc)
		}
		if len(w.work) > 0 && w.rand.IntN(3) == 0 {
			w.commit()
		}
		if len(w.work) == 0 && w.done() {
			return
		}
		if w.rand.IntN(300) == 0 {
			w.log.Rebalance()
		}
		if w.fleet != nil {
			w.fleet.step(w.rand, w.total-len(w.work), len(w.work) == 0)
		}
		time.Sleep(time.Duration(1+w.rand.IntN(60)) * time.Millisecond)
	}
}

func (w *world) done() bool {
	c, err := w.log.Positions().Load(w.t.Context())
	if err != nil || c.Pending != "" || string(c.Position) != fmt.Sprintf("src:%d", w.total) {
		return false
	}
	if w.fleet != nil && !w.fleet.settled(w.total) {
		return false
	}
	for p := range w.parts {
		end := int64(len(w.log.Records(p)))
		if cursors, _ := w.log.Cursors(p); cursors.Second < end || strings.Contains(cursors.Marks, "out") {
			return false
		}
	}
	return true
}

func (w *world) judge() {
	records := map[int][]pipeline.Message{}
	for p := range w.parts {
		records[p] = w.log.Records(p)
	}
	if wrong := w.h.violations(records, true); len(wrong) > 0 {
		w.t.Errorf("%d violations:\n%s", len(wrong), strings.Join(wrong[:min(len(wrong), 5)], "\n"))
	}
	if dead := w.log.Dead(); len(dead) > 0 {
		w.t.Errorf("dead letters: %+v", dead)
	}
}

// TestKillAfterEachSideEffect stops a process, the tailer and the invalidator in
// one, at every operation in turn, before and after its effect, and lets others
// go on from what is stored, of which the second dies as well.
func TestKillAfterEachSideEffect(t *testing.T) {
	killAtEach(t, []uint64{1, 2, 3, rand.Uint64()}, newWorld)
}

func killAtEach(t *testing.T, seeds []uint64, newWorld func(*testing.T, *keys.Schema, uint64) *world) {
	s := schema(t)
	if testing.Short() {
		seeds = seeds[len(seeds)-1:]
	}
	for _, seed := range seeds {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("seed=%d,after=%v", seed, after), func(t *testing.T) {
				n := 1
				for reached := true; reached && !t.Failed(); n++ {
					bubble(t, func(t *testing.T) {
						w := newWorld(t, s, seed)
						reached = w.live(1, n, after) >= n
						w.died()
						w.live(2, 1+w.rand.IntN(60), after)
						w.died()
						w.live(3, 0, false)
						time.Sleep(time.Second) // acknowledgements that are late
						w.judge()
					})
				}
				if t.Failed() {
					t.Logf("killed at operation %d", n-1)
				}
				if n < 20 {
					t.Errorf("only %d operations: nothing was shown", n)
				}
				t.Logf("%d runs", n)
			})
		}
	}
}
