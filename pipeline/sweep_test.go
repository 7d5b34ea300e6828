package pipeline_test

import (
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

const truncate = `"kind":"invalidate","scopes":[{"db":"shop","table":"item"}],"reason":"TRUNCATE"`

// A scan of a large Redis holds up no delete of a named key; the cursors wait
// for it instead.
func TestSweepsRunBesideThePasses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		b.redis.Inject(slowSweeps(b, func() time.Duration { return 40 * time.Second }))
		b.change(1)
		b.event(truncate)
		stop := b.start()
		b.after(5 * time.Second)
		b.change(2)
		b.after(30 * time.Second)
		b.wantCalls("0s cart:1", "5s cart:2", "10s cart:1", "15s cart:2")
		if c, ok := b.log.Cursors(0); ok {
			t.Errorf("stored %+v before the sweep was done", c)
		}
		b.after(45 * time.Second)
		b.wantCursors(3, 0) // the first sweep is done, the second is on its way
		b.after(85 * time.Second)
		b.wantCursors(3, 3)
		b.wantCalls("0s cart:1", "5s cart:2", "10s cart:1", "15s cart:2", "40s category:*:items item:*", "1m20s category:*:items item:*")
		stopped(t, stop)
	})
}

// What is asked for while a sweep runs is swept together after it, and what was
// asked for late enough is not swept again.
func TestSweepsAreMerged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		b.redis.Inject(slowSweeps(b, func() time.Duration { return 30 * time.Second }))
		stop := b.start()
		b.event(truncate)
		for i := range 5 {
			b.after(time.Duration(i+1) * time.Second)
			b.event(truncate)
		}
		b.after(5 * time.Minute)
		// 0 to 30 s: the first one. 30 to 60 s: its second. 60 to 90 s: the other
		// five, sent more than 10 s after the last was read, so once for both passes.
		b.wantCalls("30s category:*:items item:*", "1m0s category:*:items item:*", "1m30s category:*:items item:*")
		b.wantCursors(6, 6)
		stopped(t, stop)
	})
}

// A next owner makes the second sweep that an earlier one still owed.
func TestNextOwnerSweepsAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		b.event(truncate)
		stop := b.start()
		b.after(5 * time.Second)
		stopped(t, stop)
		b.wantCursors(1, 0)
		stop = b.start()
		b.after(30 * time.Second)
		b.wantCalls("0s category:*:items item:*", "15s category:*:items item:*")
		b.wantCursors(1, 1)
		stopped(t, stop)
	})
}

// What an earlier owner left of many sweeps is made in few.
func TestInheritedSweepsAreMerged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		for range 950 { // ten reads
			b.event(truncate)
		}
		b.store(pipeline.Cursors{First: 950})
		b.redis.Inject(slowSweeps(b, func() time.Duration { return 30 * time.Second }))
		stop := b.start()
		b.after(5 * time.Minute)
		b.wantCursors(950, 950)
		if n := len(b.calls); n == 0 || n > 2 {
			t.Errorf("swept %d times: %q", n, b.calls)
		}
		stopped(t, stop)
	})
}
