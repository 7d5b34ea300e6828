package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// setSource says its positions as sets: "src:7" stands for src:1 to src:7.
type setSource struct{ *pipelinetest.Source }

func (setSource) GTIDSet(p pipeline.Position) string { return string(p) }

func setNumber(t testing.TB, set string) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(set, "src:%d", &n); err != nil {
		t.Fatalf("set %q", set)
	}
	return n
}

func isProgress(data []byte) bool {
	e, err := pipeline.DecodeEvent(data)
	return err == nil && e.Kind == pipeline.KindProgress
}

// progressIn returns the sets of a partition's progress records.
func (r *rig) progressIn(partition int) (sets []string) {
	for _, m := range r.log.Records(partition) {
		e, err := pipeline.DecodeEvent(m.Data)
		if err != nil {
			r.t.Fatal(err)
		}
		if e.Kind != pipeline.KindProgress {
			continue
		}
		if e.Source != "shop" || e.Partition != partition || e.Partitions != 2 {
			r.t.Errorf("progress %+v in partition %d", e, partition)
		}
		sets = append(sets, e.GTID)
	}
	return sets
}

func newProgressRig(t *testing.T, position pipeline.Position) *rig {
	r := newRig(t, position)
	r.Source = setSource{r.src}
	return r
}

func TestProgressInEveryPartition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newProgressRig(t, "src:0")
		stop := start(t, r.Run)
		time.Sleep(10500 * time.Millisecond)
		synctest.Wait()
		for p := range 2 { // idle: each second
			if sets := r.progressIn(p); len(sets) != 11 || sets[0] != "src:0" || sets[10] != "src:0" {
				t.Errorf("partition %d, idle: %v", p, sets)
			}
		}
		r.src.Commit(carts(1))
		r.src.Commit() // no rows, but a position
		time.Sleep(progressSoon)
		synctest.Wait()
		for p := range 2 {
			if sets := r.progressIn(p); sets[len(sets)-1] != "src:2" {
				t.Errorf("partition %d, after %v: %v", p, progressSoon, sets)
			}
		}
		before := len(r.progressIn(0))
		for range 1000 { // busy: not more often than every 100 ms
			r.src.Commit(carts(1))
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if n := len(r.progressIn(0)) - before; n < 8 || n > 11 {
			t.Errorf("%d rounds in a busy second", n)
		}
		stopped(t, stop)
	})
}

// progressSoon bounds the time from a commit to its progress record, with a log
// that takes no time.
const progressSoon = 250 * time.Millisecond

func TestProgressNeedsASet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		r.src.Commit(carts(1))
		stop := start(t, r.Run)
		r.wantPosition("src:1")
		if sets := append(r.progressIn(0), r.progressIn(1)...); len(sets) > 0 {
			t.Errorf("progress %v of a source without sets", sets)
		}
		stopped(t, stop)
	})
}

// One round at a time, whatever the log does, and the stream does not wait.
func TestProgressThatIsNotAcknowledged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newProgressRig(t, "src:0")
		var mu sync.Mutex
		var acks []func()
		held := 0
		r.Publisher = selective{r.log.Publisher(), func(ack func()) bool {
			mu.Lock()
			defer mu.Unlock()
			acks = append(acks, ack)
			held++
			return true
		}}
		cuts := 0
		r.src.Fail = func(op, _ string) error {
			if op == "batch" && cuts < 3 {
				cuts++
				return errors.New("connection lost")
			}
			return nil
		}
		stop := start(t, r.Run)
		for range 20 {
			r.src.Commit(carts(1), carts(2))
			time.Sleep(time.Second)
		}
		r.wantPosition("src:20")
		mu.Lock()
		if held != 1 || len(r.progressIn(0)) != 1 {
			t.Errorf("%d rounds under way", held)
		}
		mu.Unlock()
		acks[0]()
		time.Sleep(progressSoon)
		synctest.Wait()
		if sets := r.progressIn(1); len(sets) != 2 || sets[1] != "src:20" {
			t.Errorf("after the acknowledgement: %v", sets)
		}
		stopped(t, stop)
	})
}

// selective holds back the acknowledgements of progress.
type selective struct {
	pipeline.Publisher
	hold func(ack func()) bool
}

func (s selective) Publish(ctx context.Context, records []pipeline.Record, done func(error)) error {
	if !isProgress(records[0].Data) {
		return s.Publisher.Publish(ctx, records, done)
	}
	return s.Publisher.Publish(ctx, records, func(err error) {
		if !s.hold(func() { done(err) }) {
			done(err)
		}
	})
}

// wideSource has sets of 16 KiB.
type wideSource struct{ *pipelinetest.Source }

func (wideSource) GTIDSet(p pipeline.Position) string { return strings.Repeat(" ", 16<<10) + string(p) }

// Large sets go round less often: here 32 KiB in a round, and 128 KiB a second.
func TestProgressIsBoundedInBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		r.Source = wideSource{r.src}
		stop := start(t, r.Run)
		for range 1000 {
			r.src.Commit(carts(1))
			time.Sleep(10 * time.Millisecond)
		}
		stopped(t, stop)
		if n := len(r.progressIn(0)); n < 30 || n > 41 {
			t.Errorf("%d rounds in 10 s", n)
		}
	})
}

// After a gap, progress is told of the new position, behind the invalidation of
// everything; what was left to tell of the old one is not.
func TestProgressAfterAGap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newProgressRig(t, "src:0")
		for range 9 {
			r.src.Commit(carts(1))
		}
		r.src.Purge("src:8", "purged")
		w := &progressWorld{world: &world{t: t, parts: 2, h: &history{}}, durable: map[string]map[string]bool{}, owed: true}
		r.Publisher = judgingPublisher{r.log.Publisher(), w}
		r.log.Ack = func(ack func()) {
			go func() {
				time.Sleep(time.Second)
				ack()
			}()
		}
		stop := start(t, r.Run)
		time.Sleep(10 * time.Second)
		if sets := r.progressIn(1); len(sets) == 0 || sets[0] != "src:9" {
			t.Errorf("progress %v", sets)
		}
		stopped(t, stop)
		settle()
	})
}

// What an earlier stream has stored and not told is never told after a gap: it
// may belong to another history.
func TestProgressForgetsAnOlderHistory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newProgressRig(t, "src:0")
		var ack func()
		r.Publisher = selective{r.log.Publisher(), func(f func()) bool {
			hold := ack == nil
			if hold {
				ack = f
			}
			return hold
		}}
		r.src.Fail = func(string, string) error {
			time.Sleep(100 * time.Millisecond)
			return nil
		}
		stop := start(t, r.Run)
		for range 5 {
			r.src.Commit(carts(1))
		}
		r.wantPosition("src:5") // and the round of src:0 is still under way
		r.src.Purge("src:8", "purged")
		for range 4 {
			r.src.Commit(carts(1))
		}
		r.wantPosition("src:9")
		ack()
		settle()
		if sets := r.progressIn(0); len(sets) < 3 || !slices.Equal(slices.Compact(slices.Clone(sets)), []string{"src:0", "src:9"}) {
			t.Errorf("progress %v", sets)
		}
		stopped(t, stop)
	})
}
