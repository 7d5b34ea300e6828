package admin

import (
	"errors"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// What failed again and again is a condition until it works again.
func TestReadyRecovers(t *testing.T) {
	r := NewReady()
	h := r.Hooks()
	for attempt := 1; attempt <= troubleAttempts; attempt++ {
		if _, ok := r.Conditions(); !ok {
			t.Fatalf("not ready before failure %d", attempt)
		}
		h.Retry("first delete", attempt, errors.New("redis is away"), time.Second)
	}
	if all, ok := r.Conditions(); ok || len(all) != 1 || all[0].Reason != "redis is away" {
		t.Fatalf("after %d failures: %t, %+v", troubleAttempts, ok, all)
	}
	h.Recovered("first delete", troubleAttempts)
	if all, ok := r.Conditions(); !ok || len(all) != 0 {
		t.Errorf("after it worked: %t, %+v", ok, all)
	}
}

// Nothing about replays makes a process unready, or ready.
func TestReadyIgnoresReplays(t *testing.T) {
	r := NewReady(Partitions)
	h := r.ReplayHooks()
	h.Owned("t.replay/0", true)
	if _, ok := r.Conditions(); ok {
		t.Error("ready by a partition of replays")
	}
	r.Hooks().Owned("t/0", true)
	h.Retry("read log", troubleAttempts, errors.New("no such topic"), time.Second)
	h.ReaderOut(pipeline.ReaderOutInfo{Partition: "t.replay/0", Reader: "r:3306", Out: true})
	if all, ok := r.Conditions(); !ok || len(all) != 1 {
		t.Errorf("not ready because of a replay: %+v", all)
	}
	want := []string{"reader r:3306 is out", "replay: read log"}
	if got := r.Warnings(); len(got) != 2 || got[0].Name != want[0] || got[1].Name != want[1] || got[1].Reason != "no such topic" {
		t.Errorf("notices %+v", got)
	}
	h.Recovered("read log", troubleAttempts)
	h.Owned("t.replay/0", false)
	if got := r.Warnings(); len(got) != 0 {
		t.Errorf("notices that are over: %+v", got)
	}
}
