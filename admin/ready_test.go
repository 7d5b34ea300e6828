package admin

import (
	"errors"
	"testing"
	"time"
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
