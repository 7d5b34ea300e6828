package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

const (
	// maxOutstanding bounds the bytes that were handed to the log and are not yet
	// durable, of one Publish.
	maxOutstanding = 8 << 20
	// handOver is how many bytes go to the log at once, about.
	handOver = 256 << 10
)

// LogTarget is a Target on a pipeline's log. It is safe for concurrent use.
type LogTarget struct {
	publisher pipeline.Publisher
	backlog   func(context.Context) (Backlog, error)
	next      atomic.Int64 // counts records, for the partitions' turns
	bytes     atomic.Int64
}

// NewTarget returns a Target that appends to a log, to its partitions in turn:
// nothing that handles it relies on order. backlog says how far the passes over
// that log are behind its end.
func NewTarget(p pipeline.Publisher, backlog func(context.Context) (Backlog, error)) *LogTarget {
	return &LogTarget{publisher: p, backlog: backlog}
}

// Backlog implements Target.
func (t *LogTarget) Backlog(ctx context.Context) (Backlog, error) { return t.backlog(ctx) }

// Sent returns how many records and bytes were handed to the log.
func (t *LogTarget) Sent() (records, bytes int64) { return t.next.Load(), t.bytes.Load() }

// Publish implements Target. On an error some of the events may be in the log,
// or get there.
func (t *LogTarget) Publish(ctx context.Context, events []pipeline.Event) error {
	f := flight{t: t, ctx: ctx, room: semaphore.NewWeighted(maxOutstanding)}
	var data [][]byte
	for i := range events {
		var err error
		if data, err = pipeline.AppendRecords(data[:0], events[i]); err != nil {
			return errors.Join(fmt.Errorf("publish a chunk: %w", err), f.wait())
		}
		for _, d := range data {
			if err := f.add(d); err != nil {
				return errors.Join(err, f.wait())
			}
		}
	}
	return errors.Join(f.flush(), f.wait())
}

// flight is the records of one Publish.
type flight struct {
	t       *LogTarget
	ctx     context.Context //nolint:containedctx // of the one call that the flight lives for
	room    *semaphore.Weighted
	pending []pipeline.Record
	size    int64 // of pending

	mu     sync.Mutex
	failed error // the first
}

// add takes a record, and hands over what there is once it is much.
func (f *flight) add(data []byte) error {
	n := uint64(f.t.next.Add(1) - 1)
	f.t.bytes.Add(int64(len(data)))
	f.pending = append(f.pending, pipeline.Record{Partition: int(n % uint64(f.t.publisher.Partitions())), Data: data})
	f.size += int64(len(data))
	if f.size < handOver {
		return nil
	}
	return f.flush()
}

func (f *flight) flush() error {
	if len(f.pending) == 0 {
		return nil
	}
	size := min(f.size, maxOutstanding)
	if err := f.room.Acquire(f.ctx, size); err != nil {
		return context.Cause(f.ctx)
	}
	records := f.pending
	f.pending, f.size = nil, 0
	err := f.t.publisher.Publish(f.ctx, records, func(err error) {
		if err != nil {
			f.mu.Lock()
			if f.failed == nil {
				f.failed = err
			}
			f.mu.Unlock()
		}
		f.room.Release(size)
	})
	if err != nil {
		f.room.Release(size)
		return fmt.Errorf("publish a chunk: %w", err)
	}
	return nil
}

// wait returns when everything that was handed over is durable.
func (f *flight) wait() error {
	if err := f.room.Acquire(f.ctx, maxOutstanding); err != nil {
		return context.Cause(f.ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed != nil {
		return fmt.Errorf("publish a chunk: %w", f.failed)
	}
	return nil
}
