package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// read takes chunks from the source until its end. The next chunk is read while
// one is published, but publishing and storing take turns: so at most one chunk
// is in the log and not in the state.
func (r *Run) read(ctx context.Context) error {
	inner, stop := context.WithCancelCause(ctx)
	chunks := make(chan Chunk)
	var readErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(chunks)
		readErr = r.Source.Read(inner, r.State.Cursor(), func(ctx context.Context, c Chunk) error {
			select {
			case chunks <- c:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
	err := r.take(ctx, chunks)
	stop(err)
	for range chunks { // the source may be about to hand one over
	}
	wg.Wait()
	switch {
	case err != nil:
	case ctx.Err() != nil:
		err = ErrStopped
	case readErr != nil:
		err = fmt.Errorf("read what is to be replayed: %w", readErr)
	default:
		err = r.settle(ctx)
	}
	if _, lost := errors.AsType[*inHandError](err); lost || err == nil {
		return err
	}
	return errors.Join(err, r.leave())
}

// inHandError says that a chunk may be in the log of which the state knows nothing.
type inHandError struct{ error }

func (e *inHandError) Unwrap() error { return e.error }

func (r *Run) take(ctx context.Context, chunks <-chan Chunk) error {
	set := make(keySet)
	for c := range chunks {
		if ctx.Err() != nil {
			return ErrStopped
		}
		if err := r.chunk(ctx, c, set); err != nil {
			return err
		}
	}
	return nil
}

// lazyStore is how often the state is stored behind chunks that made no event:
// such a chunk costs nothing when it comes again.
const lazyStore = time.Second

// chunk publishes one chunk and stores that it did.
func (r *Run) chunk(ctx context.Context, c Chunk, set keySet) error {
	clear(set)
	set.add(r.today, c.Events)
	s := &r.State.stored
	debt, events := s.Owed, c.Events
	if r.old != nil && len(events) > 0 {
		if extra := r.old.chunk(events, set, &debt); extra != nil {
			events = append(events[:len(events):len(events)], *extra)
		}
	}
	if err := r.Pace.read(ctx, c.Rows, len(set)); err != nil {
		return ErrStopped
	}
	if len(events) > 0 {
		if err := r.publish(ctx, events, max(len(set), 1)); err != nil {
			return err
		}
	}
	s.Owed, s.Cursor = debt, c.Next
	s.Counts.Rows += c.Rows
	s.Counts.Keys += int64(len(set))
	s.Counts.Chunks++
	s.Counts.Done = c.Done
	if len(events) > 0 || r.meter.sinceStored() > lazyStore {
		if err := r.store(); err != nil {
			return &inHandError{err}
		}
		r.meter.stored()
	}
	r.meter.chunk(s.Counts)
	if r.ChunkDone != nil {
		r.ChunkDone(c)
	}
	return nil
}

// lastChunk is for how long a chunk may still be published when ctx has ended.
const lastChunk = 10 * time.Second

// publish waits for its turn and makes the events durable in the log, part by
// part. What it has begun it finishes, also when ctx ends. Whatever the source, all
// events pass here: each is to be turned into keys by the replay's schema alone, also
// by an invalidator that came later.
func (r *Run) publish(ctx context.Context, events []pipeline.Event, n int) error {
	for i := range events {
		events[i].KeysBy = r.Schema.Hash()
	}
	parts := partsOf(events, n)
	if err := r.wait(ctx, n/len(parts)); err != nil {
		return ErrStopped
	}
	longer, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	stop := context.AfterFunc(ctx, func() {
		_ = sleep(longer, lastChunk)
		end()
	})
	defer stop()
	for i, part := range parts {
		if i > 0 {
			_ = r.wait(ctx, n/len(parts)) // the rest of a chunk does not wait for a pace when ctx has ended
		}
		if err := r.Target.Publish(longer, part); err != nil {
			if ctx.Err() != nil {
				err = errors.Join(ErrStopped, err)
			}
			return &inHandError{err}
		}
	}
	r.meter.add(int64(n))
	return nil
}

// wait returns when n keys may go.
func (r *Run) wait(ctx context.Context, n int) error {
	if r.Pace == nil {
		return nil
	}
	return r.Pace.Wait(ctx, n)
}

// settle publishes the sweeps that are owed for the old schema.
func (r *Run) settle(ctx context.Context) error {
	if r.old == nil {
		return nil
	}
	s := &r.State.stored
	debt := s.Owed
	debt.add(r.old.sweeps(r.SweepOld)...)
	e := debt.event(r.Schema.Hash())
	if e == nil {
		return nil
	}
	if err := r.publish(ctx, []pipeline.Event{*e}, 1); err != nil {
		return err
	}
	s.Owed = debt
	return nil
}
