package replay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// lateLog is a Publisher that acknowledges when it is told to.
type lateLog struct {
	parts int
	mu    sync.Mutex
	got   []pipeline.Record
	acks  []func(error)
	open  int // bytes that are not acknowledged
	most  int // of open
	fail  error
}

func (l *lateLog) Partitions() int { return l.parts }

func (l *lateLog) Publish(_ context.Context, records []pipeline.Record, done func(error)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	l.got = append(l.got, records...)
	n := 0
	for _, r := range records {
		n += len(r.Data)
	}
	l.open += n
	l.most = max(l.most, l.open)
	l.acks = append(l.acks, func(err error) {
		l.mu.Lock()
		l.open -= n
		l.mu.Unlock()
		done(err)
	})
	return nil
}

// ack acknowledges the oldest that waits, and says whether there was one.
func (l *lateLog) ack(err error) bool {
	l.mu.Lock()
	if len(l.acks) == 0 {
		l.mu.Unlock()
		return false
	}
	first := l.acks[0]
	l.acks = l.acks[1:]
	l.mu.Unlock()
	first(err)
	return true
}

func manyKeys(n int) pipeline.Event {
	e := pipeline.Event{Kind: pipeline.KindKeys, Source: "shop"}
	for i := range n {
		e.Keys = append(e.Keys, fmt.Sprintf("item:%09d:%s", i, strings.Repeat("x", 600)))
	}
	return e
}

// TestTargetWaits: Publish returns when all is durable, and never has much more in
// flight than it may.
func TestTargetWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lateLog{parts: 3}
		target := NewTarget(log, nil)
		e := manyKeys(20_000) // 12 MB
		var finished atomic.Bool
		go func() {
			if err := target.Publish(t.Context(), []pipeline.Event{e}); err != nil {
				t.Error(err)
			}
			finished.Store(true)
		}()
		for synctest.Wait(); ; synctest.Wait() {
			early := finished.Load()
			if !log.ack(nil) {
				break
			}
			if early {
				t.Fatal("returned before all was durable")
			}
		}
		if !finished.Load() {
			t.Fatal("did not return")
		}
		if log.most > maxOutstanding || log.most < maxOutstanding/2 {
			t.Errorf("%d bytes were in flight", log.most)
		}
		each, bytes, named := map[int]int{}, 0, 0
		for _, r := range log.got {
			got, err := pipeline.DecodeEvent(r.Data)
			if err != nil {
				t.Fatal(err)
			}
			for i, k := range got.Keys {
				if k != e.Keys[named+i] {
					t.Fatalf("key %d is %s", named+i, k)
				}
			}
			named += len(got.Keys)
			each[r.Partition]++
			bytes += len(r.Data)
		}
		if named != len(e.Keys) || len(each) != 3 || each[0]-each[2] > 1 {
			t.Errorf("%d keys, records by partition: %v", named, each)
		}
		if records, sent := target.Sent(); records != int64(len(log.got)) || sent != int64(bytes) {
			t.Errorf("sent %d records and %d bytes, published %d and %d", records, sent, len(log.got), bytes)
		}
	})
}

// TestTargetFails: an error is told, whoever has it, and only when nothing is on
// its way any more.
func TestTargetFails(t *testing.T) {
	broken := errors.New("the log is closed")
	event := []pipeline.Event{manyKeys(10)}
	synctest.Test(t, func(t *testing.T) {
		if err := NewTarget(&lateLog{parts: 1, fail: broken}, nil).Publish(t.Context(), event); !errors.Is(err, broken) {
			t.Errorf("refused: %v", err)
		}
		log := &lateLog{parts: 1}
		go func() {
			synctest.Wait()
			log.ack(broken)
		}()
		if err := NewTarget(log, nil).Publish(t.Context(), event); !errors.Is(err, broken) {
			t.Errorf("given up: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := NewTarget(&lateLog{parts: 1}, nil).Publish(ctx, event); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("never acknowledged: %v", err)
		}
		err := NewTarget(&lateLog{parts: 1}, nil).Publish(t.Context(), []pipeline.Event{{Kind: "nonsense"}})
		if !errors.Is(err, pipeline.ErrFatal) {
			t.Errorf("not an event: %v", err)
		}
	})
}
