package pipeline_test

import (
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

func TestOwes(t *testing.T) {
	for marks, want := range map[string]bool{
		"":                                        false,
		`{"readers":{}}`:                          false,
		`{"readers":null,"past":"a"}`:             false,
		`{"readers":{"r1":{"server":"x"}}}`:       false,
		`{"readers":{"r1":{},"r2":{"out":0}}}`:    true,
		`{"readers":{"r1":{"out":-1}},"past":""}`: true,
		`{"readers":`:                             true,
		`[]`:                                      true,
	} {
		if got := pipeline.Owes(marks); got != want {
			t.Errorf("%s: %t, want %t", marks, got, want)
		}
	}
}

// What an invalidator stores owes from the moment on in which it goes on without a
// reader, and until what it did without it is before the second pass again.
func TestStoredMarksOwe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGated(t, 1000, 0)
		g.commit(1)
		stop := g.start()
		stored := func() (owes bool, second int64) {
			c, _ := g.log.Cursors(0)
			return pipeline.Owes(c.Marks), c.Second
		}
		if owes, second := stored(); owes || second != 0 {
			t.Errorf("at first: %t, second %d", owes, second)
		}
		g.after(11 * time.Minute)
		g.wantSecond("cart:1", 1, pipeline.ReleaseWithout)
		if owes, second := stored(); !owes || second != 1 {
			t.Errorf("without the reader: %t, second %d", owes, second)
		}
		g.servers[1].Show(upTo(1000))
		for owes, second := stored(); owes; owes, second = stored() {
			if time.Since(g.began) > 20*time.Minute {
				t.Fatalf("a reader that is back is still out at %d", second)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if _, second := stored(); second != 0 {
			n, _ := g.secondDeletes("cart:1")
			t.Errorf("back: second %d, %d second deletes", second, n)
		}
		stopped(t, stop)
	})
}
