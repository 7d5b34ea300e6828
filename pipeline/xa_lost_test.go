package pipeline_test

import (
	"testing"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// An XA transaction of tables that no rule was about is prepared, and a rule for
// one of them is added before it commits.
func TestXARuleAddedWhilePrepared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newXARig(t, new(pipelinetest.Prepared))
		r.src.Commit(xa(pipeline.XAPrepare, "x", pipeline.Batch{}))
		stop := start(t, r.Run)
		r.wantPrepared("src:1", 1)
		stopped(t, stop)
		s, err := keys.Parse("other.yaml", []byte("version: 1\nkeys:\n  - {name: cart, table: shop.cart, key: \"basket:{id}\"}\n"))
		if err != nil {
			t.Fatal(err)
		}
		r.Schema = s
		r.src.Commit(xa(pipeline.XACommit, "x", pipeline.Batch{}))
		stop = start(t, r.Run)
		r.wantPosition("src:2")
		r.wantKeys("*.*: an XA transaction was prepared under another key schema")
		stopped(t, stop)
	})
}

// A gap swallows the end of a prepared transaction, and the PREPARE of another
// one that uses its xid again: the rows of the first must not stand for it.
func TestXAIDIsUsedAgainInAGap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newXARig(t, new(pipelinetest.Prepared))
		r.src.Commit(xa(pipeline.XAPrepare, "x", carts(1)))
		stop := start(t, r.Run)
		r.wantPrepared("src:1", 1)
		stopped(t, stop)
		r.src.Commit(xa(pipeline.XACommit, "x", pipeline.Batch{}))
		r.src.Commit(xa(pipeline.XAPrepare, "x", carts(2)))
		r.src.Purge("src:3", "binlogs purged")
		stop = start(t, r.Run)
		settle()
		r.src.Commit(xa(pipeline.XACommit, "x", pipeline.Batch{}))
		r.wantPosition("src:4")
		r.wantKeys(unknownXID, "*.*: binlogs purged")
		stopped(t, stop)
	})
}
