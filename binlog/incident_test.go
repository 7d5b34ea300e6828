package binlog

import (
	"slices"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// An incident makes everything stale: in the newest transaction, or in the next
// one where it follows a transaction that was delivered before.
func TestIncident(t *testing.T) {
	gtid := func(gno byte) []byte { // flags, server, number, no timestamps
		return append(append(make([]byte, 17), gno), make([]byte, 7)...)
	}
	const none = "00000000-0000-0000-0000-000000000000:"
	for _, tt := range []struct {
		name  string
		known identity
		want  []string // GTIDs of the batches that make everything stale
	}{
		{"after a transaction", identity{}, []string{none + "1"}},
		{"after one that comes again", identity{GTID: none + "1"}, []string{none + "2"}},
	} {
		var got []string
		d := fuzzDecoder(t, func(b pipeline.Batch) {
			if slices.Contains(b.Invalidate, pipeline.Everything) {
				got = append(got, b.Txn.GTID)
			}
		})
		d.known = tt.known
		for _, e := range []struct {
			typ  replication.EventType
			body []byte
		}{
			{replication.GTID_EVENT, gtid(1)}, {replication.XID_EVENT, make([]byte, 8)},
			{replication.INCIDENT_EVENT, []byte{1, 0, 0}},
			{replication.GTID_EVENT, gtid(2)}, {replication.XID_EVENT, make([]byte, 8)},
		} {
			if err := d.event(&replication.EventHeader{EventType: e.typ}, e.body, 4); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: everything is stale in %v, want %v", tt.name, got, tt.want)
		}
	}
}
