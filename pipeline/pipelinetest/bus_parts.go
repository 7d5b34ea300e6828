package pipelinetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

func logOrder(t *testing.T, l LogUnderTest) {
	const perPartition = 700
	partitions := l.Publisher.Partitions()
	acks := make(chan error, 2*perPartition*partitions)
	want := make([][][]byte, partitions)
	calls := 0
	var batch []pipeline.Record
	for i := range perPartition * partitions {
		part := i % partitions
		data := fmt.Appendf(nil, "%d/%d %s", part, len(want[part]), bytes.Repeat([]byte("x"), i%300))
		want[part] = append(want[part], data)
		batch = append(batch, pipeline.Record{Partition: part, Data: data})
		if len(batch) > calls%37 || i == perPartition*partitions-1 {
			calls++
			if err := l.Publisher.Publish(t.Context(), batch, func(err error) { acks <- err }); err != nil {
				t.Fatal(err)
			}
			batch = nil
		}
	}
	o := startOwner(t, l.Consumer(), nil)
	for _, p := range o.all(t, partitions) {
		checkPasses(t, p, want)
	}
	for i := range calls {
		select {
		case err := <-acks:
			if err != nil {
				t.Fatalf("done: %v", err)
			}
		case <-time.After(logPatience):
			t.Fatalf("done was called %d times for %d calls", i, calls)
		}
	}
	publish(t, l.Publisher, 0, []byte("last")) // a second call of done would have come before this one's
	if len(acks) > 0 {
		t.Fatalf("done was called %d times too often", len(acks))
	}
	if err := o.stop(t); err != nil {
		t.Fatal(err)
	}
}

// checkPasses reads a partition twice at the same time, as the passes do.
func checkPasses(t *testing.T, p ownedPartition, want [][][]byte) {
	t.Helper()
	c, gap := p.Cursors()
	if gap != "" || c.First != c.Second {
		t.Fatalf("%s: cursors %+v, gap %q in a new log", p.Name(), c, gap)
	}
	var passes [2][]pipeline.Message
	var errs [2]error
	var wg sync.WaitGroup
	for pass := range passes {
		wg.Go(func() { passes[pass], errs[pass] = readAll(p.ctx, p, c.First, len(want[0])) })
	}
	wg.Wait()
	for pass, messages := range passes {
		if errs[pass] != nil || len(messages) != len(want[0]) {
			t.Fatalf("%s: pass %d read %d records, want %d: %v", p.Name(), pass, len(messages), len(want[0]), errs[pass])
		}
		var part int
		if _, err := fmt.Sscanf(string(messages[0].Data), "%d/", &part); err != nil {
			t.Fatal(err)
		}
		for i, m := range messages {
			if !bytes.Equal(m.Data, want[part][i]) {
				t.Fatalf("pass %d, record %d is %.40q, want %.40q", pass, i, m.Data, want[part][i])
			}
			if i > 0 && m.Offset <= messages[i-1].Offset {
				t.Fatalf("offset %d after %d", m.Offset, messages[i-1].Offset)
			}
		}
	}
}

func logWakes(t *testing.T, l LogUnderTest) {
	o := startOwner(t, l.Consumer(), nil)
	for _, p := range o.all(t, l.Publisher.Partitions()) {
		short, cancel := context.WithTimeout(p.ctx, 50*time.Millisecond)
		f, err := p.Read(short, 0)
		cancel()
		if len(f.Messages) > 0 || (err != nil && !errors.Is(err, context.DeadlineExceeded)) {
			t.Fatalf("read of an empty log: %d records, %v", len(f.Messages), err)
		}
		var got []pipeline.Message
		var wg sync.WaitGroup
		wg.Go(func() { got, err = readAll(p.ctx, p, 0, 1) })
		for i := range l.Publisher.Partitions() {
			publish(t, l.Publisher, i, []byte("hello"))
		}
		wg.Wait()
		if err != nil || string(got[0].Data) != "hello" {
			t.Fatalf("%s: %d records, %v", p.Name(), len(got), err)
		}
		break
	}
	if err := o.stop(t); err != nil {
		t.Fatal(err)
	}
}

// marks are handed back byte by byte, the longest too, and end with cursors that
// have none.
var marks = []string{
	`{"readers":{"<replica> \"1\" & é":{"server":"uuid","out":123}}}`,
	`{"readers":"` + strings.Repeat("<", pipeline.MaxMarks-14) + `"}`,
	"",
}

func logCursors(t *testing.T, l LogUnderTest) {
	for i := range l.Publisher.Partitions() {
		for j := range 10 {
			publish(t, l.Publisher, i, fmt.Append(nil, j))
		}
	}
	want := map[string]pipeline.Cursors{}
	o := startOwner(t, l.Consumer(), nil)
	for name, p := range o.all(t, l.Publisher.Partitions()) {
		c := pipeline.Cursors{First: 4 + int64(len(want)%5), Second: 3, Marks: marks[len(want)%len(marks)]}
		want[name] = c
		for _, c := range []pipeline.Cursors{{First: 1, Second: 1}, {First: 9, Second: 5, Marks: `{"a":1}`}, c} {
			if err := p.Store(p.ctx, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := o.stop(t); err != nil {
		t.Fatal(err)
	}
	o = startOwner(t, l.Consumer(), nil)
	for name, p := range o.all(t, l.Publisher.Partitions()) {
		if c, gap := p.Cursors(); c != want[name] || gap != "" {
			t.Errorf("%s: cursors %+v, gap %q, want %+v", name, c, gap, want[name])
		}
		if m, err := readAll(p.ctx, p, want[name].Second, 7); err != nil || string(m[0].Data) != "3" {
			t.Errorf("%s: %d records, %v", name, len(m), err)
		}
	}
	if err := o.stop(t); err != nil {
		t.Fatal(err)
	}
}

func logGaps(t *testing.T, l LogUnderTest) {
	for i := range l.Publisher.Partitions() {
		for range 20 {
			publish(t, l.Publisher, i, bytes.Repeat([]byte("x"), 1000))
		}
	}
	if l.Drop != nil {
		l.Drop(12)
	}
	o := startOwner(t, l.Consumer(), nil)
	dropped := 0
	for name, p := range o.all(t, l.Publisher.Partitions()) {
		_, err := p.Read(p.ctx, 25)
		if gap, ok := errors.AsType[*pipeline.LogGapError](err); !ok || gap.From != 25 {
			t.Errorf("%s: read beyond the end: %v", name, err)
		}
		f, err := p.Read(p.ctx, 0)
		if gap, ok := errors.AsType[*pipeline.LogGapError](err); ok {
			dropped++
			if gap.From != 0 || gap.Start < 1 || gap.Start > 12 {
				t.Errorf("%s: gap %+v", name, gap)
			}
			if c, why := p.Cursors(); why == "" || c.First != gap.Start || c.Second != gap.Start {
				t.Errorf("%s: a new consumer of a log without its first records: cursors %+v, gap %q", name, c, why)
			}
			if m, err := readAll(p.ctx, p, gap.Start, 20-int(gap.Start)); err != nil || m[0].Offset != gap.Start {
				t.Errorf("%s: after the gap: %v", name, err)
			}
		} else if err != nil || f.Messages[0].Offset != 0 {
			t.Errorf("%s: read from the start: %v", name, err)
		}
	}
	if l.Drop != nil && dropped != 1 {
		t.Errorf("%d partitions have a gap at the start, want 1", dropped)
	}
	if err := o.stop(t); err != nil {
		t.Fatal(err)
	}
}

func logOwn(t *testing.T, l LogUnderTest) {
	broken := errors.New("broken")
	results := []error{pipeline.ErrFenced, nil, fmt.Errorf("wrapped: %w", broken)}
	var mu sync.Mutex
	calls := map[string]int{}
	o := startOwner(t, l.Consumer(), func(ctx context.Context, p pipeline.Partition) error {
		mu.Lock()
		call := calls[p.Name()]
		calls[p.Name()]++
		mu.Unlock()
		if call >= len(results) {
			<-ctx.Done()
			return ctx.Err()
		}
		return results[call]
	})
	if err := o.wait(t); !errors.Is(err, broken) {
		t.Fatalf("Run returned %v, want own's error", err)
	}
}
