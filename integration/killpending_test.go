package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestKillPending kills every process again and again while second deletes are pending: one of the readers is a replica
// that applies each transaction three seconds after its commit, so that at any time the deletes of the last four seconds
// are. None may be lost, and none may be early: the last delete of each key must come after the replica has shown its
// last change, and fill.
func TestKillPending(t *testing.T) {
	t.Run("kafka", func(t *testing.T) { testKillPending(t, false, pick(30, 200)) })
	t.Run("embedded", func(t *testing.T) { testKillPending(t, true, pick(10, 200)) })
}

func testKillPending(t *testing.T, embedded bool, kills int) {
	const delay = 3 // seconds; the server rounds a commit's time down to whole ones
	const lag = (delay - 1) * time.Second
	source := envtest.MySQL(t, testenv.MySQLOptions{})
	replica := envtest.MySQL(t, testenv.MySQLOptions{ReplicaOf: source})
	r := newRig(t, options{
		source: source, embedded: embedded, lag: lag, more: "log_level: debug",
		second: fmt.Sprintf(", readers: [%q, %q]", source.Addr, replica.Addr),
	})
	delayed := openSQL(t, replica, "")
	var made string
	if err := r.sql.QueryRowContext(t.Context(), "SELECT @@global.gtid_executed").Scan(&made); err != nil {
		t.Fatal(err)
	}
	var late int // the user must be there before anything is delayed
	if err := delayed.QueryRowContext(t.Context(), "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 60)", made).Scan(&late); err != nil || late != 0 {
		t.Fatalf("the replica does not catch up: %v", err)
	}
	for _, stmt := range []string{
		"STOP REPLICA SQL_THREAD",
		fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_DELAY = %d", delay),
		"START REPLICA SQL_THREAD",
	} {
		if _, err := delayed.ExecContext(t.Context(), stmt); err != nil {
			t.Fatalf("%s: %v", stmt, err)
		}
	}
	r.killUnderLoad(kills, 3)
}
