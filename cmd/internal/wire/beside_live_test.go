package wire

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// livePartition is the first pass of a live partition, as its hooks tell of it.
type livePartition struct {
	pipeline.Hooks
	name      string
	next, end int64
}

// read reads so many of the records that are there.
func (p *livePartition) read(records int64) {
	p.next += records
	p.Fetched(pipeline.FetchedInfo{Partition: p.name, Records: int(records), Behind: p.end - p.next, End: p.end})
}

// handle takes some time for what was read.
func (p *livePartition) handle(took time.Duration) {
	time.Sleep(took)
	p.Handled(p.name, p.next)
}

// besideLive runs a test in a bubble of time. held says whether replays wait.
func besideLive(t *testing.T, f func(partition func(name string) *livePartition, held func() bool)) {
	synctest.Test(t, func(t *testing.T) {
		l := newLiveFirst()
		f(func(name string) *livePartition {
			p := &livePartition{Hooks: l.hooks(), name: name, next: 700, end: 700}
			p.Owned(name, true)
			return p
		}, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
			defer cancel()
			return l.wait(ctx) != nil
		})
	})
}

// TestLiveLoadInTime: a load of which every read leaves something behind holds
// nothing back while all of it is handled soon.
func TestLiveLoadInTime(t *testing.T) {
	besideLive(t, func(partition func(string) *livePartition, held func() bool) {
		p := partition("t/0")
		p.end += 3
		for i := range 2000 { // 20 s
			p.end += 100
			p.read(100)
			p.handle(10 * time.Millisecond)
			if held() {
				t.Fatalf("replays wait after %d reads", i)
			}
		}
	})
}

// TestLiveLoadTooLarge: what comes faster than it is handled is late after some
// time, and no longer once the pass is where the log ended a moment ago.
func TestLiveLoadTooLarge(t *testing.T) {
	besideLive(t, func(partition func(string) *livePartition, held func() bool) {
		p := partition("t/0")
		other := partition("t/1")
		first := time.Duration(0)
		for began := time.Now(); time.Since(began) < 2*time.Second; {
			p.end += 100
			p.read(60) // so at a time d, what came at 0.6 d is handled
			p.handle(10 * time.Millisecond)
			other.end++
			other.read(1)
			other.handle(0) // is never late
			if held() && first == 0 {
				first = time.Since(began)
			} else if !held() && first != 0 {
				t.Fatalf("replays do not wait %v after the beginning", time.Since(began))
			}
		}
		if first < 550*time.Millisecond || first > 650*time.Millisecond {
			t.Errorf("replays waited after %v, want 600 ms or so", first)
		}
		for p.next < p.end-2800 { // nothing more comes, and the last 250 ms of it are 2500 records
			p.read(300)
			p.handle(0)
			if !held() {
				t.Fatalf("replays do not wait with %d records left", p.end-p.next)
			}
		}
		p.read(600)
		if p.handle(0); held() {
			t.Error("replays wait with the records of 200 ms left")
		}
	})
}

// TestLiveStalls: what was read and is not deleted makes a partition late, also
// where nothing more is in the log; one without work never is.
func TestLiveStalls(t *testing.T) {
	besideLive(t, func(partition func(string) *livePartition, held func() bool) {
		p := partition("t/0")
		for range 3 {
			p.end++
			p.read(1)
			if time.Sleep(liveLate - 1); held() {
				t.Error("replays wait too early")
			}
			if time.Sleep(time.Nanosecond); !held() {
				t.Error("replays do not wait for a delete that takes long")
			}
			p.handle(time.Minute)
			if held() {
				t.Error("replays wait for a delete that is done")
			}
			if time.Sleep(time.Hour); held() {
				t.Error("replays wait for a partition without work")
			}
			p.read(0) // a read may come back with nothing
			p.handle(0)
		}
	})
}

// TestLiveInLargeSteps: what came while a batch was at work is as late as that
// took, whenever it is read.
func TestLiveInLargeSteps(t *testing.T) {
	besideLive(t, func(partition func(string) *livePartition, held func() bool) {
		p := partition("t/0")
		for i := range 10 {
			p.end += 1000
			p.read(1000)
			if held() != (i > 0) {
				t.Errorf("step %d: replays wait: %t", i, held())
			}
			p.handle(2 * liveLate)
		}
	})
}

// TestLiveChangesHands: a partition of another process holds nothing back, and one
// whose log lost its tail only until it is at the new end.
func TestLiveChangesHands(t *testing.T) {
	besideLive(t, func(partition func(string) *livePartition, held func() bool) {
		p := partition("t/0")
		p.end += 1000
		p.read(10)
		if time.Sleep(liveLate); !held() {
			t.Error("replays do not wait")
		}
		p.Owned(p.name, false)
		if held() {
			t.Error("replays wait for a partition of another process")
		}
		p.Handled(p.name, p.next) // too late to count
		p = partition("t/0")
		p.end += 1000
		p.read(10)
		if held() {
			t.Error("replays wait for what has just come")
		}
		if time.Sleep(liveLate); !held() {
			t.Error("replays do not wait after the partition came back")
		}
		p.next, p.end = 300, 400
		p.read(50)
		if p.handle(0); !held() {
			t.Error("replays do not wait before the new end")
		}
		p.read(50)
		if p.handle(0); held() {
			t.Error("replays wait for what the log has lost")
		}
	})
}
