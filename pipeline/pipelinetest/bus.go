package pipelinetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// LogUnderTest is a fresh, empty log, as RunLog uses it.
type LogUnderTest struct {
	Publisher   pipeline.Publisher
	Consumer    func() pipeline.Consumer // a new member of the same group
	Positions   pipeline.Positions
	DeadLetters pipeline.DeadLetters
	// Members says how many members may run at a time: 1 or 2.
	Members int
	// Drop removes the records of partition 0 below an offset, or as many of
	// them as the log can; nil where there is no way.
	Drop func(below int64)
}

// logPatience bounds each wait of the suite; nothing takes that long unless it fails.
const logPatience = 60 * time.Second

// RunLog is the suite for the seams Publisher, Consumer, Partition, Positions
// and DeadLetters. open makes an empty log, for each part of the suite.
func RunLog(t *testing.T, open func(t *testing.T) LogUnderTest) {
	parts := []struct {
		name string
		run  func(*testing.T, LogUnderTest)
	}{
		{"records arrive in order for both passes", logOrder},
		{"a waiting read wakes up", logWakes},
		{"cursors outlive their owner", logCursors},
		{"offsets the log does not hold are a gap", logGaps},
		{"own decides how Run ends", logOwn},
		{"an ended owner cannot store", logFenced},
		{"two members share the partitions", logMembers},
		{"publish refuses what it cannot do", logRefuses},
		{"the position is the one saved last", logPositionsPart},
		{"dead letters may come twice", logDeadLetters},
	}
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) { p.run(t, open(t)) })
	}
}

// publish publishes one record and waits until it is durable.
func publish(t *testing.T, p pipeline.Publisher, partition int, data []byte) {
	t.Helper()
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), logPatience)
	defer cancel()
	if err := p.Publish(ctx, []pipeline.Record{{Partition: partition, Data: data}}, func(err error) { done <- err }); err != nil {
		t.Fatalf("publish: %v", err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("publish: done: %v", err)
		}
	case <-ctx.Done():
		t.Fatal("publish: done was not called")
	}
}

// owner runs a consumer in the background; its own function hands each
// partition to the test and then runs f, if any, or waits for its end.
type owner struct {
	partitions chan ownedPartition
	cancel     context.CancelFunc
	ended      chan error
}

type ownedPartition struct {
	pipeline.Partition
	ctx context.Context
}

func startOwner(t *testing.T, c pipeline.Consumer, f func(context.Context, pipeline.Partition) error) *owner {
	ctx, cancel := context.WithCancel(t.Context())
	o := &owner{partitions: make(chan ownedPartition, 100), cancel: cancel, ended: make(chan error, 1)}
	go func() {
		o.ended <- c.Run(ctx, func(ctx context.Context, p pipeline.Partition) error {
			o.partitions <- ownedPartition{p, ctx}
			if f != nil {
				return f(ctx, p)
			}
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	t.Cleanup(cancel)
	return o
}

// next returns the next partition that the consumer owns.
func (o *owner) next(t *testing.T) ownedPartition {
	t.Helper()
	select {
	case p := <-o.partitions:
		return p
	case err := <-o.ended:
		t.Fatalf("the consumer ended: %v", err)
	case <-time.After(logPatience):
		t.Fatal("the consumer got no partition")
	}
	panic("unreachable")
}

// all returns n partitions by name. Where a generation ended meanwhile, the
// newest owner of a name counts.
func (o *owner) all(t *testing.T, n int) map[string]ownedPartition {
	t.Helper()
	owned := map[string]ownedPartition{}
	for len(owned) < n {
		p := o.next(t)
		owned[p.Name()] = p
		for name, p := range owned {
			if p.ctx.Err() != nil {
				delete(owned, name)
			}
		}
	}
	return owned
}

// stop ends the consumer and returns Run's error.
func (o *owner) stop(t *testing.T) error {
	t.Helper()
	o.cancel()
	return o.wait(t)
}

func (o *owner) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-o.ended:
		return err
	case <-time.After(logPatience):
		t.Fatal("Run did not return")
		return nil
	}
}

// readAll reads from an offset until n records have come.
func readAll(ctx context.Context, p pipeline.Partition, from int64, n int) ([]pipeline.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, logPatience)
	defer cancel()
	var all []pipeline.Message
	for len(all) < n {
		f, err := p.Read(ctx, from)
		if err != nil {
			return all, err
		}
		if f.Next < from || f.End < f.Next {
			return all, fmt.Errorf("read from %d: next %d, end %d", from, f.Next, f.End)
		}
		all = append(all, f.Messages...)
		from = f.Next
	}
	return all, nil
}
