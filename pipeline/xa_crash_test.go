package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// xaWorld is a source with XA transactions, and what must be published of them.
type xaWorld struct {
	t     *testing.T
	src   *pipelinetest.Source
	log   *pipelinetest.Log
	kept  *pipelinetest.Prepared
	h     *history
	total int
	after map[string]string // the GTID that commits each key
}

func newXAWorld(t *testing.T, seed uint64) *xaWorld {
	r := rand.New(rand.NewPCG(seed, 21))
	w := &xaWorld{
		t: t, src: new(pipelinetest.Source), log: pipelinetest.NewLog(2), h: new(history),
		kept: &pipelinetest.Prepared{Gap: int64(r.IntN(2))}, after: map[string]string{},
	}
	open := map[string][]int{} // by xid
	key := 0
	for range 12 {
		w.total++
		xid := fmt.Sprint("x", r.IntN(3))
		ids, prepared := open[xid], open[xid] != nil
		switch {
		case prepared && r.IntN(4) == 0:
			w.src.Commit(xa(pipeline.XARollback, xid, pipeline.Batch{}))
		case prepared:
			gtid := w.src.Commit(xa(pipeline.XACommit, xid, pipeline.Batch{}))
			for _, id := range ids {
				w.after[fmt.Sprint("cart:", id)] = gtid
			}
		default:
			pieces := []pipeline.Batch{xa(pipeline.XAHeld, "", carts(key)), xa(pipeline.XAPrepare, xid, carts(key+1))}
			skip := r.IntN(2)
			w.src.Commit(pieces[skip:]...)
			open[xid] = []int{key, key + 1}[skip:]
			key += 2
			continue
		}
		delete(open, xid)
	}
	cuts := r.IntN(3)
	w.src.Fail = func(op, _ string) error {
		if op == "batch" && cuts > 0 {
			cuts--
			return errors.New("connection lost")
		}
		return nil
	}
	return w
}

// live runs a tailer until it dies or is done.
func (w *xaWorld) live(dieAt int, after bool) (ops int) {
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	l := &life{h: w.h, kill: cancel, dieAt: dieAt, after: after}
	tailer := &pipeline.Tailer{
		Name: "shop", Schema: schema(w.t), Source: w.src, Gate: new(pipelinetest.Gate), Start: "src:0",
		Publisher: mortalPublisher{l, w.log.Publisher()}, Positions: mortalPositions{l, w.log.Positions()},
		Prepared: mortalPrepared{l, w.kept},
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := tailer.Run(ctx); err != nil {
			w.t.Errorf("tailer: %v", err)
		}
	})
	for n := 0; !l.isDead(); n++ {
		c, _ := w.log.Positions().Load(w.t.Context())
		if string(c.Position) == fmt.Sprintf("src:%d", w.total) && c.Pending == "" {
			break
		}
		if n > 100_000 {
			w.t.Fatalf("no end after %d operations", l.ops)
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ops
}

// judge: each key is published with its commit's GTID, no other one is, and
// nothing had to be invalidated but what the first start owes.
func (w *xaWorld) judge() {
	got := map[string]bool{}
	for p := range 2 {
		for _, m := range w.log.Records(p) {
			e, err := pipeline.DecodeEvent(m.Data)
			if err != nil {
				w.t.Fatal(err)
			}
			for _, k := range keysOf(e.Tables) {
				got[k] = true
				if w.after[k] != e.GTID {
					w.t.Errorf("%s is published with %s, want %q", k, e.GTID, w.after[k])
				}
			}
			if len(e.Scopes) > 0 && e.Reason != "first start" {
				w.t.Errorf("invalidated %v: %s", e.Scopes, e.Reason)
			}
		}
	}
	for k, gtid := range w.after {
		if !got[k] {
			w.t.Errorf("%s of %s is not published", k, gtid)
		}
	}
}

type mortalPrepared struct {
	*life
	pipeline.Prepared
}

func (p mortalPrepared) Append(ctx context.Context, records [][]byte, done func(from, next int64, err error)) error {
	return p.do(true, func() error {
		return p.Prepared.Append(ctx, records, func(from, next int64, err error) {
			if !p.isDead() {
				done(from, next, err)
			}
		})
	})
}

func (p mortalPrepared) Read(ctx context.Context, from, next int64, fn func(pipeline.Message) error) error {
	return p.do(true, func() error { return p.Prepared.Read(ctx, from, next, fn) })
}

func (p mortalPrepared) Release(below int64) {
	_ = p.do(true, func() error {
		p.Prepared.Release(below)
		return nil
	})
}

// TestXAKillAfterEachSideEffect stops the tailer at every operation in turn, and
// lets others go on from what is stored.
func TestXAKillAfterEachSideEffect(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3, 4, rand.Uint64()} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("seed=%d,after=%v", seed, after), func(t *testing.T) {
				n := 1
				for reached := true; reached && !t.Failed(); n++ {
					bubble(t, func(t *testing.T) {
						w := newXAWorld(t, seed)
						reached = w.live(n, after) >= n
						w.live(1+n%7, !after)
						w.live(0, false)
						w.judge()
					})
				}
				if n < 12 {
					t.Errorf("only %d operations: nothing was shown", n)
				}
			})
		}
	}
}
