package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// I2: a position moves only over what is durable, whatever order the
// acknowledgements come in.
func TestPositionFollowsDurableRecords(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		var acks []func()
		r.log.Ack = func(ack func()) { acks = append(acks, ack) }
		r.src.Commit(carts(1))
		r.src.Commit(carts(2))
		r.src.Commit() // no rows
		r.src.Commit(carts(3), carts(4))
		stop := start(t, r.Run)
		settle()
		if len(acks) != 4 {
			t.Fatalf("%d publish calls, want 4", len(acks))
		}
		acks[3]()
		acks[1]()
		r.wantPosition("src:0")
		acks[0]()
		r.wantPosition("src:3")
		acks[2]()
		r.wantPosition("src:4")
		stopped(t, stop)
	})
}

// I3: rows of a transaction that is not at its end move nothing.
func TestPositionMovesAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		more := make(chan struct{})
		r.src.Fail = func(op, _ string) error {
			if op == "batch" {
				<-more
			}
			return nil
		}
		r.src.Commit()
		r.src.Commit(carts(1), carts(2))
		stop := start(t, r.Run)
		r.wantPosition("src:1")
		r.wantKeys("cart:1")
		close(more)
		r.wantPosition("src:2")
		stopped(t, stop)
	})
}

func TestCutOffTransactionComesAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		broken := 0
		r.src.Fail = func(op, gtid string) error {
			if op == "batch" && gtid == "src:2" && broken < 2 {
				broken++
				if c := r.checkpoint(); c.Position > "src:1" {
					t.Errorf("position %s inside of src:2", c.Position)
				}
				return errors.New("connection lost")
			}
			return nil
		}
		r.src.Commit(carts(1))
		r.src.Commit(carts(2), carts(3))
		r.src.Commit(carts(4))
		stop := start(t, r.Run)
		r.wantPosition("src:3")
		r.wantKeys("cart:1", "cart:2", "cart:2", "cart:2", "cart:3", "cart:4")
		stopped(t, stop)
	})
}

// What was published before the connection broke is settled before the stream
// begins again: it is not read twice.
func TestReconnectWaitsForWhatIsOnItsWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		r.log.Ack = func(ack func()) {
			go func() {
				time.Sleep(time.Minute)
				ack()
			}()
		}
		var from []string
		r.src.Fail = func(op, gtid string) error {
			if op == "connect" {
				from = append(from, gtid)
			}
			if op == "batch" && len(from) == 1 {
				return errors.New("connection lost")
			}
			return nil
		}
		r.src.Commit(carts(1))
		r.src.Commit(carts(2), carts(3))
		stop := start(t, r.Run)
		time.Sleep(5 * time.Minute)
		r.wantPosition("src:2")
		if !slices.Equal(from, []string{"src:0", "src:1"}) {
			t.Errorf("read from %v", from)
		}
		stopped(t, stop)
	})
}

func TestGateHolds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		var held []time.Duration
		r.Hooks.Held = func(h pipeline.HeldInfo) { held = append(held, h.Held) }
		r.src.Commit() // no rows: the gate is not asked
		stop := start(t, r.Run)
		r.wantPosition("src:1")
		r.gate.Hold()
		r.src.Commit()
		r.src.Commit(pipeline.Batch{}, carts(1), carts(2))
		r.wantPosition("src:2")
		r.wantKeys()
		r.gate.Release()
		r.wantPosition("src:3")
		r.wantKeys("cart:1", "cart:2")
		r.gate.Hold()
		r.src.Commit(carts(3))
		r.wantPosition("src:3")
		r.gate.Release()
		r.wantPosition("src:4")
		if p := r.gate.Passed(); !slices.Equal(p, []string{"src:3", "src:4"}) {
			t.Errorf("the gate was asked for %v", p)
		}
		if !slices.Equal(held, []time.Duration{time.Second, time.Second}) {
			t.Errorf("held for %v", held)
		}
		stopped(t, stop)
	})
}

func TestGateOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		r.Gate = nil
		r.src.Commit(carts(1))
		stop := start(t, r.Run)
		r.wantPosition("src:1")
		r.wantKeys("cart:1")
		stopped(t, stop)
	})
}

type brokenGate struct{ n int }

func (g *brokenGate) Wait(context.Context, pipeline.Txn) error {
	if g.n++; g.n < 3 {
		return errors.New("another history")
	}
	return nil
}

// A gate that cannot say makes the tailer look at the source anew.
func TestGateFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		r.Gate = new(brokenGate)
		checks := 0
		r.src.Fail = func(op, _ string) error {
			if op == "check" {
				checks++
			}
			return nil
		}
		r.src.Commit(carts(1))
		stop := start(t, r.Run)
		r.wantPosition("src:1")
		r.wantKeys("cart:1")
		if checks != 3 {
			t.Errorf("%d checks, want 3", checks)
		}
		stopped(t, stop)
	})
}

// A Publisher that gives up ends the tailer, and no later position is stored.
func TestPublisherGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		full := errors.New("record too large")
		n := 0
		r.log.Fail = func(op string) error {
			if op == "append" {
				if n++; n == 2 {
					return full
				}
			}
			return nil
		}
		r.src.Commit(carts(1))
		r.src.Commit(carts(2))
		r.src.Commit(carts(3))
		err := r.Run(t.Context())
		if !errors.Is(err, full) || !errors.Is(err, pipeline.ErrFatal) || !strings.Contains(err.Error(), "src:2") {
			t.Errorf("Run = %v", err)
		}
		if c := r.checkpoint(); c.Position > "src:1" {
			t.Errorf("position %s: src:2 is not durable", c.Position)
		}
	})
}

// A Publish that is refused does not hang the tailer.
func TestPublishRefused(t *testing.T) {
	for _, ops := range []string{"publish", "load", "save", "saved", "publish save load", "start", "check", "connect"} {
		t.Run(ops, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, "")
				left := map[string]int{}
				for op := range strings.FieldsSeq(ops) {
					left[op] = 3
				}
				fail := func(op string) error {
					if left[op]--; left[op] >= 0 {
						return fmt.Errorf("%s is out of luck", op)
					}
					return nil
				}
				r.src.Fail = func(op, _ string) error { return fail(op) }
				r.src.Commit(carts(1))
				r.log.Fail = fail
				stop := start(t, r.Run)
				time.Sleep(time.Minute)
				r.src.Commit(carts(2), carts(3))
				time.Sleep(time.Minute)
				r.wantPosition("src:2")
				r.wantKeys("*.*: first start", "cart:2", "cart:3")
				stopped(t, stop)
			})
		})
	}
}

// A checkpoint that cannot be read is not taken for none.
func TestPositionThatCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "")
		r.log.Fail = func(op string) error {
			if op != "load" {
				t.Errorf("%s after a load that failed", op)
			}
			return pipeline.ErrFatal
		}
		if err := r.Run(t.Context()); !errors.Is(err, pipeline.ErrFatal) {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestStartThatCannotWork(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "")
		r.Start = "nonsense"
		if err := r.Run(t.Context()); !errors.Is(err, pipeline.ErrFatal) {
			t.Errorf("Run = %v", err)
		}
	})
}

// Wherever the tailer waits, the end of its context ends it, quickly, and what
// is durable by then is stored.
func TestTailerEnds(t *testing.T) {
	for name, prepare := range map[string]func(r *rig){
		"idle":          func(*rig) {},
		"at the gate":   func(r *rig) { r.gate.Hold() },
		"no ack":        func(r *rig) { r.log.Ack = func(func()) {} },
		"no connection": func(r *rig) { r.src.Fail = func(string, string) error { return errDead } },
		"no position":   func(r *rig) { r.log.Fail = failing("load") },
		"no store":      func(r *rig) { r.log.Fail = failing("save") },
		"no publisher":  func(r *rig) { r.log.Fail = failing("publish") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, "src:0")
				prepare(r)
				r.src.Commit()
				r.src.Commit(carts(1))
				stop := start(t, r.Run)
				time.Sleep(10 * time.Second)
				began := time.Now()
				stopped(t, stop)
				if d := time.Since(began); d > 4*time.Second {
					t.Errorf("took %v to end", d)
				}
			})
		})
	}
}

func failing(op string) func(string) error {
	return func(o string) error {
		if o == op {
			return errDead
		}
		return nil
	}
}

// What became durable just before the end is stored.
func TestLastPositionIsStored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		r.CheckpointEvery = time.Hour
		var last pipeline.CheckpointInfo
		published := 0
		r.Hooks.Checkpoint = func(c pipeline.CheckpointInfo) { last = c }
		r.Hooks.Published = func(p pipeline.PublishedInfo) { published += p.Rows }
		at := time.UnixMicro(1_700_000_000_000_000)
		r.src.Commit(pipeline.Batch{Txn: pipeline.Txn{CommittedAt: at}, Tables: carts(1, 2).Tables})
		stop := start(t, r.Run)
		settle()
		if c := r.checkpoint(); c.Position != "src:0" {
			t.Errorf("stored %s within the hour", c.Position)
		}
		stopped(t, stop)
		r.wantPosition("src:1")
		if want := (pipeline.CheckpointInfo{Position: "src:1", CommittedAt: at}); last != want || published != 2 {
			t.Errorf("reported %+v and %d rows", last, published)
		}
	})
}
