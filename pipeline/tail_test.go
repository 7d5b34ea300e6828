package pipeline_test

import (
	"errors"
	"slices"
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
