package pipelinetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

func logFenced(t *testing.T, l LogUnderTest) {
	for i := range l.Publisher.Partitions() {
		publish(t, l.Publisher, i, []byte("a"))
		publish(t, l.Publisher, i, []byte("b"))
	}
	last := make(chan error, l.Publisher.Partitions())
	o := startOwner(t, l.Consumer(), func(ctx context.Context, p pipeline.Partition) error {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		last <- p.Store(ctx, pipeline.Cursors{First: 2, Second: 1})
		return nil
	})
	owned := o.all(t, l.Publisher.Partitions())
	if err := o.stop(t); err != nil {
		t.Fatal(err)
	}
	for range owned {
		if err := <-last; err != nil {
			t.Errorf("the last store of an owner that leaves by itself: %v", err)
		}
	}
	next := startOwner(t, l.Consumer(), nil)
	for name, p := range next.all(t, l.Publisher.Partitions()) {
		if c, _ := p.Cursors(); c != (pipeline.Cursors{First: 2, Second: 1}) {
			t.Errorf("%s: cursors %+v after the last store", name, c)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := owned[name].Store(ctx, pipeline.Cursors{First: 1, Second: 1}); !errors.Is(err, pipeline.ErrFenced) {
			t.Errorf("%s: the former owner's store: %v, want ErrFenced", name, err)
		}
		cancel()
	}
	if err := next.stop(t); err != nil {
		t.Fatal(err)
	}
}

func logMembers(t *testing.T, l LogUnderTest) {
	partitions := l.Publisher.Partitions()
	if l.Members < 2 || partitions < 2 {
		return // a log of one member, by declaration
	}
	for i := range partitions {
		publish(t, l.Publisher, i, []byte("a"))
		publish(t, l.Publisher, i, []byte("b"))
	}
	a := startOwner(t, l.Consumer(), nil)
	before := a.all(t, partitions)
	for name, p := range before {
		if err := p.Store(p.ctx, pipeline.Cursors{First: 2, Second: 1}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	b := startOwner(t, l.Consumer(), nil)
	kept, moved := share(t, a, b, partitions)
	for name := range kept {
		if _, both := moved[name]; both {
			t.Errorf("%s has two owners", name)
		}
	}
	for name, p := range moved {
		old := before[name]
		select {
		case <-old.ctx.Done():
		case <-time.After(logPatience):
			t.Fatalf("%s: the former owner was not told", name)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := old.Store(ctx, pipeline.Cursors{First: 1, Second: 0}); !errors.Is(err, pipeline.ErrFenced) {
			t.Errorf("%s: the former owner's store: %v, want ErrFenced", name, err)
		}
		cancel()
		if c, gap := p.Cursors(); c != (pipeline.Cursors{First: 2, Second: 1}) || gap != "" {
			t.Errorf("%s: the new owner's cursors %+v, gap %q", name, c, gap)
		}
		if err := p.Store(p.ctx, pipeline.Cursors{First: 2, Second: 2}); err != nil {
			t.Errorf("%s: the new owner's store: %v", name, err)
		}
	}
	if err := a.stop(t); err != nil {
		t.Fatal(err)
	}
	after := b.all(t, partitions)
	for name := range moved {
		if c, _ := after[name].Cursors(); c != (pipeline.Cursors{First: 2, Second: 2}) {
			t.Errorf("%s: cursors %+v after the second rebalance", name, c)
		}
	}
	if err := b.stop(t); err != nil {
		t.Fatal(err)
	}
}

// share waits until two members own all partitions, each of them some, and
// returns whose are which.
func share(t *testing.T, a, b *owner, partitions int) (ofA, ofB map[string]ownedPartition) {
	t.Helper()
	ofA, ofB = map[string]ownedPartition{}, map[string]ownedPartition{}
	deadline := time.After(logPatience)
	for {
		select {
		case p := <-a.partitions:
			ofA[p.Name()] = p
		case p := <-b.partitions:
			ofB[p.Name()] = p
		case <-deadline:
			t.Fatalf("of %d partitions one member has %d, the other %d", partitions, len(ofA), len(ofB))
		}
		for _, owned := range []map[string]ownedPartition{ofA, ofB} {
			for name, p := range owned {
				if p.ctx.Err() != nil {
					delete(owned, name)
				}
			}
		}
		if len(ofA) > 0 && len(ofB) > 0 && len(ofA)+len(ofB) >= partitions {
			return ofA, ofB
		}
	}
}

func logRefuses(t *testing.T, l LogUnderTest) {
	done := func(error) { t.Error("done was called for a refused call") }
	beyond := []pipeline.Record{{Partition: l.Publisher.Partitions(), Data: []byte("x")}}
	if err := l.Publisher.Publish(t.Context(), beyond, done); err == nil {
		t.Error("a record for a partition that does not exist was accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Publisher.Publish(ctx, []pipeline.Record{{Data: []byte("x")}}, done); !errors.Is(err, context.Canceled) {
		t.Errorf("publish with an ended context: %v", err)
	}
	empty := make(chan error, 1)
	if err := l.Publisher.Publish(t.Context(), nil, func(err error) { empty <- err }); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-empty:
		if err != nil {
			t.Errorf("publish of no records: done: %v", err)
		}
	case <-time.After(logPatience):
		t.Error("publish of no records: done was not called")
	}
}

func logPositionsPart(t *testing.T, l LogUnderTest) {
	c, err := l.Positions.Load(t.Context())
	if err != nil || c != (pipeline.Checkpoint{}) {
		t.Fatalf("a new log has checkpoint %+v, %v", c, err)
	}
	for _, want := range []pipeline.Checkpoint{{Position: "a:1"}, {Position: "a:1-2", Pending: "why", Prepared: `[{"xid":"1:61:"}]`}, {Position: "a:1-3"}} {
		if err := l.Positions.Save(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		if got, err := l.Positions.Load(t.Context()); err != nil || got != want {
			t.Fatalf("loaded %+v, %v; saved %+v", got, err, want)
		}
	}
}

func logDeadLetters(t *testing.T, l LogUnderTest) {
	letter := pipeline.DeadLetter{Partition: "p/0", Offset: 7, Reason: "it is not an event", Data: []byte{0, 0xff, '\n', '{'}}
	for range 2 {
		if err := l.DeadLetters.Add(t.Context(), letter); err != nil {
			t.Fatal(err)
		}
	}
}
