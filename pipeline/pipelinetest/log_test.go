package pipelinetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

func TestLogRebalanceFencesTheOldOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog(2)
		p := l.Publisher()
		for i := range 300 {
			acked := errors.New("done was not called")
			err := p.Publish(t.Context(), []pipeline.Record{{Partition: i % 2, Data: fmt.Append(nil, i)}}, func(err error) { acked = err })
			if err != nil || acked != nil {
				t.Fatalf("publish: %v, %v", err, acked)
			}
		}
		var mu sync.Mutex
		owned := map[string]pipeline.Partition{}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		run := func(member string) {
			wg.Go(func() {
				err := l.Consumer().Run(ctx, func(ctx context.Context, p pipeline.Partition) error {
					mu.Lock()
					owned[member+" "+p.Name()] = p
					mu.Unlock()
					<-ctx.Done()
					return ctx.Err()
				})
				if err != nil {
					t.Errorf("member %s: %v", member, err)
				}
			})
		}
		run("a")
		synctest.Wait()
		old := owned["a test/1"]
		if old == nil || owned["a test/0"] == nil {
			t.Fatalf("a owns %v, want both partitions", owned)
		}
		if err := old.Store(ctx, pipeline.Cursors{First: 7, Second: 5}); err != nil {
			t.Fatal(err)
		}
		run("b")
		synctest.Wait()
		now := owned["b test/1"]
		if now == nil {
			t.Fatalf("b owns nothing: %v", owned)
		}
		if c, gap := now.Cursors(); c != (pipeline.Cursors{First: 7, Second: 5}) || gap != "" {
			t.Fatalf("cursors %+v, gap %q", c, gap)
		}
		if err := old.Store(ctx, pipeline.Cursors{First: 9, Second: 9}); !errors.Is(err, pipeline.ErrFenced) {
			t.Fatalf("the old owner's store: %v, want ErrFenced", err)
		}
		f, err := now.Read(ctx, 60)
		if err != nil || len(f.Messages) != 90 || f.Next != 150 || f.End != 150 {
			t.Fatalf("read %d messages, next %d, end %d, %v", len(f.Messages), f.Next, f.End, err)
		}
		stop()
		wg.Wait()
	})
}

func TestLogPassesTheSuite(t *testing.T) {
	RunLog(t, func(t *testing.T) LogUnderTest {
		l := NewLog(3)
		return LogUnderTest{
			Publisher: l.Publisher(), Consumer: l.Consumer, Positions: l.Positions(), DeadLetters: l.DeadLetters(),
			Members: 2, Drop: func(below int64) { l.Drop(0, below) },
		}
	})
}

func TestPreparedPassesTheSuite(t *testing.T) {
	RunPrepared(t, func(*testing.T) PreparedUnderTest {
		p := &Prepared{Gap: 2}
		return PreparedUnderTest{Prepared: p, Reopen: func() pipeline.Prepared { return p }, Drop: p.Release}
	})
}
