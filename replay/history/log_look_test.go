package history

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/replay"
)

// TestLogLook: while a plan reads the range it tells what that costs, by rows or
// by bytes, and how far it is; and it ends where it is told to. The replay itself
// does not tell: its chunks are paced.
func TestLogLook(t *testing.T) {
	schema := parseSchema(t, itemSchema)
	log := &memoryLog{records: []string{
		changed(1, time.Now(), 50), "no event", progressed(3, schema.Hash()),
		changedAs(4, time.Now(), 1, "shop", "item", strings.Repeat("x", 32_000), schema.Hash()),
		changed(5, time.Now().Add(-time.Hour), 7), // not of the range, and read all the same
	}}
	var rows int64
	var shares []float64
	var end error
	deps := LogDeps{Log: log, Schema: schema, Look: func(_ context.Context, n int64, done float64) error {
		rows, shares = rows+n, append(shares, done)
		return end
	}}
	open := func(spec LogSpec) *LogSource {
		s, err := OpenLog(deps, spec)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open(LogSpec{Since: time.Now().Add(-time.Minute)})
	planLog(t, s, nil)
	if rows < 50+1+1+1000+7 || rows > 1200 {
		t.Errorf("the plan cost %d rows", rows)
	}
	if len(shares) == 0 || shares[len(shares)-1] != 1 {
		t.Errorf("shares %v", shares)
	}
	told := len(shares)
	if err := s.Read(t.Context(), "", func(context.Context, replay.Chunk) error { return nil }); err != nil || len(shares) > told {
		t.Errorf("the replay: %v, shares %v", err, shares)
	}
	end = errors.New("enough")
	if _, err := open(LogSpec{}).Plan(t.Context()); !errors.Is(err, end) {
		t.Errorf("told to end: %v", err)
	}
}
