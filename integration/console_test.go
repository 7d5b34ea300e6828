package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// The events topic can be read with Kafka's own console consumer, and is what docs/events.md says.
func TestEventsAreReadWithTheConsoleConsumer(t *testing.T) {
	r := newRig(t, options{})
	before := time.Now().Add(-time.Minute)
	r.run("binlog-tailer").ready()
	r.exec("INSERT INTO " + r.db + ".orders VALUES (7, 42, 9.90)")

	// In any order, for they are in several partitions: everything is stale at a first start, the row, and progress
	// records, of which every partition gets one each second: so many that all partitions were read.
	const enough = 32
	lines := strings.Split(strings.TrimSpace(consoleLines(t, r, strconv.Itoa(enough))), "\n")
	if len(lines) != enough {
		t.Fatalf("read %d lines, want %d:\n%s\n%s", len(lines), enough, strings.Join(lines, "\n"), r.state())
	}
	kinds := map[string]int{}
	for _, line := range lines {
		var e struct {
			V                          int
			Kind, Source, GTID, Schema string
			CommittedUS                int64 `json:"committed_us"`
			Tables                     []struct {
				DB, Table string
				Columns   []string
				Rows      []map[string]json.RawMessage
			}
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("not JSON: %v\n%s", err, line)
		}
		if e.V != 1 || e.Source != "shop" || e.GTID == "" || e.Schema == "" {
			t.Errorf("fields are missing in %s", line)
		}
		kinds[e.Kind]++
		if e.Kind != "changes" {
			continue
		}
		if at := time.UnixMicro(e.CommittedUS); at.Before(before) || at.After(time.Now().Add(time.Minute)) {
			t.Errorf("committed at %v", at)
		}
		if len(e.Tables) != 1 || len(e.Tables[0].Rows) != 1 {
			t.Fatalf("want one row in %s", line)
		}
		table := e.Tables[0]
		got := table.DB + "." + table.Table + " " + strings.Join(table.Columns, ",") + " " + string(table.Rows[0]["after"])
		if want := r.db + ".orders id,user_id [7,42]"; got != want || len(table.Rows[0]) != 1 {
			t.Errorf("the row is %q, want %q, in %s", got, want, line)
		}
	}
	if kinds["changes"] != 1 || kinds["invalidate"] != 1 || kinds["progress"] != enough-2 {
		t.Errorf("kinds %v, want one event with rows, one invalidation, and progress:\n%s", kinds, strings.Join(lines, "\n"))
	}
}

// consoleLines is what the console consumer prints of the first n events; it waits until there are so many.
func consoleLines(t *testing.T, r *rig, n string) string {
	t.Helper()
	argv, err := envtest.Shared(t).Tool("kafka-console-consumer")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	argv = append(argv, "--bootstrap-server", r.o.kafka.Addr, "--topic", r.topic, "--from-beginning", "--max-messages", n, "--timeout-ms", "60000")
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s\n%s", argv[0], err, out, stderr.Bytes(), r.state())
	}
	return string(out)
}
