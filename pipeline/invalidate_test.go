package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

func TestBothPasses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		stop := b.start()
		b.change(1, 2)
		b.change(2, 3) // the same read: key cart:2 is named once
		b.after(3 * time.Second)
		b.change(4)
		b.after(5 * time.Second)
		b.wantCursors(3, 0)
		b.after(12 * time.Second)
		b.wantCursors(3, 2)
		b.after(20 * time.Second)
		b.wantCursors(3, 3)
		b.wantCalls("0s cart:1 cart:2 cart:3", "3s cart:4", "10s cart:1 cart:2 cart:3", "13s cart:4")
		stopped(t, stop)
	})
}

// The first pass does not wait for the second. What does not fit into memory is
// read from the log again.
func TestFirstPassNeverWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		b.Memory = 5000
		release := make(chan struct{})
		seen := map[string]bool{}
		b.fail = func(c pipelinetest.DeleteCall) error {
			b.mu.Lock()
			again := seen[c.Keys[0]]
			seen[c.Keys[0]] = true
			b.mu.Unlock()
			if again {
				<-release
			}
			return nil
		}
		stop := b.start()
		const n = 200
		for i := range n {
			b.after(time.Duration(i) * time.Second)
			b.change(i)
		}
		b.after(n * time.Second)
		if len(b.calls) != n {
			t.Fatalf("%d first deletes of %d while the second pass hangs", len(b.calls), n)
		}
		b.wantCursors(n, 0)
		reads := b.reads
		close(release)
		b.after((n + 20) * time.Second)
		b.wantCursors(n, n)
		for i := range n {
			if got := b.redis.Acked(fmt.Sprintf("cart:%d", i)); got != 2 {
				t.Fatalf("cart:%d was deleted %d times", i, got)
			}
		}
		if b.reads < reads+2 {
			t.Errorf("%d reads, then %d: all was in memory", reads, b.reads)
		}
		stopped(t, stop)
	})
}

// A first delete that was sent late enough is the second one too (I6).
func TestLateFirstDelete(t *testing.T) {
	for _, c := range []struct {
		name      string
		down      time.Duration
		replyLost bool
		skipped   bool
	}{
		{"down for longer", fill + time.Second, false, true},
		{"down, and the reply lost", fill + time.Second, true, true},
		{"down for less", fill - 6*time.Second, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t)
				b.fail = func(pipelinetest.DeleteCall) error {
					if time.Since(b.began) >= c.down {
						return nil
					}
					if c.replyLost {
						return pipelinetest.ErrReplyLost
					}
					return errFlaky
				}
				b.change(1)
				stop := b.start()
				b.after(time.Minute)
				b.wantCursors(1, 1)
				if len(b.deleted) != 2 || b.deleted[0].Pass != pipeline.First || b.deleted[0].Skipped ||
					b.deleted[1].Pass != pipeline.Second || b.deleted[1].Skipped != c.skipped {
					t.Errorf("reported %+v", b.deleted)
				}
				if c.skipped && len(b.calls) != 1 || !c.skipped && (len(b.calls) != 2 || b.calls[1] != "10s cart:1") {
					t.Errorf("Redis was asked for %q", b.calls)
				}
				stopped(t, stop)
			})
		})
	}
}

// A first delete that was sent in time and acknowledged late is not late: the
// sending counts.
func TestSlowFirstDeleteIsNotLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		slow := true
		b.fail = func(pipelinetest.DeleteCall) error {
			if slow {
				slow = false
				time.Sleep(3 * fill)
			}
			return nil
		}
		b.change(1)
		stop := b.start()
		b.after(time.Minute)
		b.wantCalls("30s cart:1", "30s cart:1")
		stopped(t, stop)
	})
}

// The keys of a read whose sweep was late, but whose keys were not, are deleted
// again.
func TestLateSweepDoesNotMakeKeysLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		b.fail = func(c pipelinetest.DeleteCall) error {
			if len(c.Patterns) > 0 && time.Since(b.began) < 2*fill {
				return errFlaky
			}
			return nil
		}
		b.change(1)
		b.event(`"kind":"invalidate","scopes":[{"db":"shop","table":"item"}],"reason":"TRUNCATE"`)
		stop := b.start()
		b.after(time.Minute)
		if b.redis.Acked("cart:1") != 2 {
			t.Errorf("Redis was asked for %q", b.calls)
		}
		stopped(t, stop)
	})
}

// An owner begins where an earlier one ended, and knows of what that one saw
// only that it is visible now (I9).
func TestNextOwner(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		for i := range 5 {
			b.change(i)
		}
		stop := b.start()
		b.after(5 * time.Second)
		stopped(t, stop)
		b.wantCursors(5, 0)
		b.change(5)
		stop = b.start()
		b.after(14 * time.Second)
		b.wantCalls("0s cart:0 cart:1 cart:2 cart:3 cart:4", "5s cart:5")
		b.after(16 * time.Second)
		b.wantCalls("0s cart:0 cart:1 cart:2 cart:3 cart:4", "5s cart:5", "15s cart:0 cart:1 cart:2 cart:3 cart:4 cart:5")
		b.wantCursors(6, 6)
		stopped(t, stop)
	})
}

func TestSchemaDiffersIsReportedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		for _, hash := range []string{"x", "x", b.Schema.Hash(), "x", "y"} {
			b.log.Append(0, fmt.Appendf(nil, `{"v":1,"kind":"invalidate","schema":%q,"scopes":[{"db":"no"}]}`, hash))
		}
		stop := b.start()
		b.after(20 * time.Second)
		stopped(t, stop)
		if !slices.Equal(b.differs, []string{"x", "y"}) {
			t.Errorf("reported %q", b.differs)
		}
	})
}

// Whatever fails is tried again, and a cursor does not move until it worked.
func TestInvalidatorRetries(t *testing.T) {
	for _, op := range []string{"read", "store", "stored"} {
		t.Run(op, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t)
				b.refuse[op] = 4
				b.change(1)
				stop := b.start()
				b.after(30 * time.Second)
				stopped(t, stop)
				b.wantCursors(1, 1)
				if b.retries != 4 || len(b.calls) != 2 {
					t.Errorf("%d retries, Redis was asked for %q", b.retries, b.calls)
				}
			})
		})
	}
}

// What can never succeed ends the invalidator.
func TestInvalidatorGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		b.fail = func(pipelinetest.DeleteCall) error { return fmt.Errorf("no permission: %w", pipeline.ErrFatal) }
		b.change(1)
		err := b.Run(t.Context(), b.log.Consumer())
		if !errors.Is(err, pipeline.ErrFatal) || !strings.Contains(err.Error(), "test/0") {
			t.Errorf("Run = %v", err)
		}
		if _, ok := b.log.Cursors(0); ok {
			t.Error("cursors were stored")
		}
	})
}

// An owner that lost its partition ends quietly, and stores nothing (I4).
func TestFenced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		b.change(1)
		var ended error
		stop := start(t, func(ctx context.Context) error {
			return b.Run(ctx, consumer(func(ctx context.Context, own func(context.Context, pipeline.Partition) error) error {
				ended = own(ctx, fenced{b.partition()})
				<-ctx.Done()
				return nil
			}))
		})
		b.after(2 * time.Second)
		if ended != nil {
			t.Errorf("a fenced owner ended with %v", ended)
		}
		stopped(t, stop)
		b.wantCalls("0s cart:1") // its second pass has ended with it
	})
}

// Wherever it waits, the end of its context ends the invalidator.
func TestInvalidatorEnds(t *testing.T) {
	for name, prepare := range map[string]func(*bench){
		"idle":      func(*bench) {},
		"waiting":   func(b *bench) { b.change(1) },
		"no Redis":  func(b *bench) { b.change(1); b.fail = func(pipelinetest.DeleteCall) error { return errDead } },
		"no log":    func(b *bench) { b.refuse["read"] = 1 << 30 },
		"no store":  func(b *bench) { b.change(1); b.refuse["store"] = 1 << 30 },
		"no letter": func(b *bench) { b.log.Append(0, []byte("x")); b.refuse["dead"] = 1 << 30 },
		"gap":       func(b *bench) { b.log.SetGap(0, "another log") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t)
				prepare(b)
				stop := b.start()
				b.after(5 * time.Second)
				stopped(t, stop)
				if d := time.Since(b.began); d > 9*time.Second {
					t.Errorf("took %v to end", d-5*time.Second)
				}
			})
		})
	}
}
