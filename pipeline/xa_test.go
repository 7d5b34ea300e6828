package pipeline_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// xa makes a batch a step of an XA transaction.
func xa(step pipeline.XAStep, xid string, b pipeline.Batch) pipeline.Batch {
	b.XA, b.XID = step, xid
	return b
}

func newXARig(t *testing.T, kept *pipelinetest.Prepared) *rig {
	r := newRig(t, "src:0")
	r.Prepared = kept
	return r
}

// wantPrepared checks the position and how many transactions the checkpoint
// counts as prepared.
func (r *rig) wantPrepared(want pipeline.Position, open int) {
	r.t.Helper()
	settle()
	c := r.checkpoint()
	if n := strings.Count(c.Prepared, `"xid"`); c.Position != want || n != open {
		r.t.Errorf("stored %s, %.300s; want %s and %d prepared transactions", c.Position, c.Prepared, want, open)
	}
}

const unknownXID = "*.*: XA COMMIT of a transaction whose PREPARE is not known: it was before the first position, in a gap, or among too many"

func TestXAIsPublishedAtCommit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		kept := &pipelinetest.Prepared{Gap: 1}
		r := newXARig(t, kept)
		stop := start(t, r.Run)
		r.src.Commit(xa(pipeline.XAHeld, "", carts(1, 2)), xa(pipeline.XAHeld, "", pipeline.Batch{}), xa(pipeline.XAPrepare, "x", carts(3)))
		r.src.Commit(xa(pipeline.XAPrepare, "rolled back", carts(4)))
		r.src.Commit(xa(pipeline.XAPrepare, "empty", pipeline.Batch{}))
		r.src.Commit(carts(5))
		r.wantPrepared("src:4", 3)
		r.wantKeys("cart:5")
		stopped(t, stop)

		stop = start(t, r.Run) // another process
		r.gate.Hold()
		r.src.Commit(xa(pipeline.XACommit, "x", pipeline.Batch{Txn: pipeline.Txn{CommittedAt: time.UnixMicro(7)}}))
		r.wantPrepared("src:4", 3)
		r.wantKeys("cart:5")
		r.gate.Release()
		r.wantPrepared("src:5", 2)
		r.wantKeys("cart:1", "cart:2", "cart:3", "cart:5")
		for _, e := range r.events() {
			if want := int64(7); e.GTID == "src:5" && e.CommittedAt.UnixMicro() != want {
				t.Errorf("event of %v, want the time of the commit", e.CommittedAt)
			} else if e.GTID != "src:4" && e.GTID != "src:5" {
				t.Errorf("an event has the GTID %s", e.GTID)
			}
		}
		r.src.Commit(xa(pipeline.XARollback, "rolled back", pipeline.Batch{}))
		r.src.Commit(xa(pipeline.XACommit, "empty", pipeline.Batch{}))
		r.src.Commit(xa(pipeline.XARollback, "never seen", pipeline.Batch{}))
		r.wantPosition("src:8")
		r.wantKeys("cart:1", "cart:2", "cart:3", "cart:5")
		if len(r.over) > 0 {
			t.Errorf("over-invalidated: %+v", r.over)
		}
		stopped(t, stop)
	})
}

// The gate is asked about the transaction that commits, not about the PREPARE.
func TestXAPassesTheGateOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newXARig(t, new(pipelinetest.Prepared))
		r.src.Commit(xa(pipeline.XAPrepare, "x", carts(1)))
		r.src.Commit(xa(pipeline.XACommit, "x", carts(2))) // what else it brings is published too
		r.src.Commit(xa(pipeline.XAHeld, "", carts(3)), xa(pipeline.XAOnePhase, "y", carts(4)))
		r.src.Commit(xa(pipeline.XAOnePhase, "z", carts(5)))
		stop := start(t, r.Run)
		r.wantPosition("src:4")
		r.wantKeys("cart:1", "cart:2", "cart:3", "cart:4", "cart:5")
		if got := r.gate.Passed(); !slices.Equal(got, []string{"src:2", "src:3", "src:4"}) {
			t.Errorf("passed the gate: %v", got)
		}
		stopped(t, stop)
	})
}

// An xid is free again once its transaction has ended.
func TestXIDIsUsedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		kept := new(pipelinetest.Prepared)
		r := newXARig(t, kept)
		for i := range 3 {
			r.src.Commit(xa(pipeline.XAPrepare, "x", carts(2*i)))
			r.src.Commit(xa(pipeline.XACommit, "x", pipeline.Batch{}))
			r.src.Commit(xa(pipeline.XAPrepare, "x", carts(2*i+1)))
			r.src.Commit(xa(pipeline.XARollback, "x", pipeline.Batch{}))
		}
		r.src.Commit(xa(pipeline.XACommit, "x", pipeline.Batch{}))
		stop := start(t, r.Run)
		r.wantPosition("src:13")
		r.wantKeys(unknownXID, "cart:0", "cart:2", "cart:4")
		if kept.Len() > 0 {
			t.Errorf("%d records are kept that nobody needs", kept.Len())
		}
		stopped(t, stop)
	})
}

// Whatever became of the rows, the tables that the transaction has changed are
// known, and if not, everything is invalidated.
func TestXAInDoubt(t *testing.T) {
	prepare := func(r *rig) {
		r.src.Commit(xa(pipeline.XAHeld, "", carts(1)), xa(pipeline.XAPrepare, "x", items(1, 2, 3)))
	}
	cannot := func(why string) []string {
		return []string{"shop.cart: the rows of an XA transaction cannot be had: " + why, "shop.item: the rows of an XA transaction cannot be had: " + why}
	}
	other := `
version: 1
keys:
  - {name: cart, table: shop.cart, key: "basket:{id}"}
`
	for name, c := range map[string]struct {
		between func(r *rig, kept *pipelinetest.Prepared)
		want    []string
	}{
		"the records are gone": {func(_ *rig, kept *pipelinetest.Prepared) { kept.Release(1) }, cannot("the log no longer holds offset 0; it can be read from 1")},
		"other records are in their place": {func(r *rig, _ *pipelinetest.Prepared) {
			fresh := new(pipelinetest.Prepared)
			for range 2 {
				_ = fresh.Append(r.t.Context(), [][]byte{[]byte("{}")}, func(int64, int64, error) {})
			}
			r.Prepared = fresh
		}, cannot("0 of 2 records are there")},
		"they are no longer kept": {func(r *rig, _ *pipelinetest.Prepared) { r.Prepared = nil }, cannot("they were not kept")},
		"the checkpoint cannot be read": {func(r *rig, _ *pipelinetest.Prepared) {
			r.save(pipeline.Checkpoint{Position: "src:1", Prepared: "?"})
		}, []string{unknownXID}},
		"another schema": {func(r *rig, _ *pipelinetest.Prepared) {
			s, err := keys.Parse("other.yaml", []byte(other))
			if err != nil {
				r.t.Fatal(err)
			}
			r.Schema = s
		}, []string{"*.*: an XA transaction was prepared under another key schema"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				kept := new(pipelinetest.Prepared)
				r := newXARig(t, kept)
				prepare(r)
				stop := start(t, r.Run)
				r.wantPrepared("src:1", 1)
				stopped(t, stop)
				c.between(r, kept)
				r.src.Commit(xa(pipeline.XACommit, "x", pipeline.Batch{}))
				stop = start(t, r.Run)
				r.wantPosition("src:2")
				if got := r.keys(); !slices.ContainsFunc(got, func(k string) bool { return strings.HasPrefix(k, "cart:") }) {
					r.wantKeys(c.want...)
				} else {
					t.Errorf("published %q", got)
				}
				stopped(t, stop)
			})
		})
	}
}

// Without a place for them rows are not kept, and their tables are invalidated.
func TestXAWithoutPrepared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newXARig(t, nil)
		r.Prepared = nil
		r.src.Commit(xa(pipeline.XAPrepare, "x", carts(1)))
		r.src.Commit(xa(pipeline.XACommit, "x", pipeline.Batch{}))
		r.src.Commit(xa(pipeline.XAHeld, "", carts(2)), xa(pipeline.XAOnePhase, "y", carts(3)))
		stop := start(t, r.Run)
		r.wantPosition("src:3")
		why := "shop.cart: the rows of an XA transaction cannot be had: they were not kept"
		r.wantKeys("cart:3", why, why)
		stopped(t, stop)
	})
}

// Undecodable rows and large ones of an XA transaction are stale at its commit.
func TestXAScopesWaitForTheCommit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newXARig(t, new(pipelinetest.Prepared))
		huge := pipeline.TableRows{DB: "shop", Table: "cart", Columns: []string{"id"}, Rows: []pipeline.Row{
			{After: []keys.Value{{Kind: keys.Text, Text: strings.Repeat("x", 600<<10)}}}, {After: []keys.Value{number(9)}},
		}}
		doubt := pipeline.Batch{Tables: []pipeline.TableRows{huge}, Invalidate: []pipeline.Scope{{DB: "shop", Table: "item"}}, Reason: "doubt"}
		r.src.Commit(xa(pipeline.XAPrepare, "x", doubt))
		stop := start(t, r.Run)
		r.wantPrepared("src:1", 1)
		r.wantKeys()
		r.src.Commit(xa(pipeline.XACommit, "x", pipeline.Batch{}))
		r.wantPosition("src:2")
		r.wantKeys("shop.cart: a row of an XA transaction has no place in a record", "shop.item: doubt")
		stopped(t, stop)
	})
}

// I2: the position passes a PREPARE only when its rows are durable.
func TestXAPositionWaitsForTheRows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var acks []func()
		r := newXARig(t, &pipelinetest.Prepared{Ack: func(ack func()) { acks = append(acks, ack) }})
		r.src.Commit(xa(pipeline.XAHeld, "", carts(1)), xa(pipeline.XAPrepare, "x", carts(2)))
		r.src.Commit(xa(pipeline.XACommit, "x", pipeline.Batch{}))
		stop := start(t, r.Run)
		r.wantPrepared("src:0", 0)
		acks[1]()
		r.wantPrepared("src:0", 0)
		r.wantKeys()
		acks[0]()
		r.wantPosition("src:2")
		r.wantKeys("cart:1", "cart:2")
		stopped(t, stop)
	})
}

func TestPreparedTransactionsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const most, more = 10_000, 7
		r := newXARig(t, new(pipelinetest.Prepared))
		open, forgotten := 0, 0
		r.Hooks.Prepared = func(n, f int) { open, forgotten = n, forgotten+f }
		for i := range most + more {
			r.src.Commit(xa(pipeline.XAPrepare, fmt.Sprintf("1:%064x:", i), carts(i)))
		}
		stop := start(t, r.Run)
		settle()
		r.wantPrepared(pipeline.Position(fmt.Sprintf("src:%d", most+more)), open)
		c := r.checkpoint()
		if len(c.Prepared) > pipeline.MaxPrepared || open+forgotten != most+more || open < most/2 {
			t.Errorf("%d are open and %d forgotten, in %d bytes", open, forgotten, len(c.Prepared))
		}
		r.src.Commit(xa(pipeline.XACommit, fmt.Sprintf("1:%064x:", 0), pipeline.Batch{}))
		r.src.Commit(xa(pipeline.XACommit, fmt.Sprintf("1:%064x:", most), pipeline.Batch{}))
		settle()
		r.wantKeys(unknownXID, fmt.Sprintf("cart:%d", most))
		stopped(t, stop)
	})
}
