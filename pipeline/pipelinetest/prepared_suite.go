package pipelinetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// PreparedUnderTest is a new, empty place for prepared rows, as RunPrepared uses it.
type PreparedUnderTest struct {
	pipeline.Prepared
	// Reopen ends it and opens it again, with what it holds; nil where there is
	// no way.
	Reopen func() pipeline.Prepared
	// Drop removes the records below an offset, or as many as can be, whether
	// they are needed or not; nil where there is no way.
	Drop func(below int64)
}

// RunPrepared is the suite for the seam Prepared.
func RunPrepared(t *testing.T, open func(t *testing.T) PreparedUnderTest) {
	parts := []struct {
		name string
		run  func(*testing.T, PreparedUnderTest)
	}{
		{"what was appended is read in order", preparedOrder},
		{"appends of several goroutines are told apart", preparedTogether},
		{"records outlive their process", preparedReopen},
		{"what is gone is a gap", preparedGap},
		{"reading ends as fn and ctx say", preparedEnds},
	}
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) { p.run(t, open(t)) })
	}
}

// kept is the answer to an Append.
type kept struct {
	from, next int64
	err        error
}

// appendPrepared appends without waiting; the answer comes through the channel.
func appendPrepared(t *testing.T, p pipeline.Prepared, records ...[]byte) <-chan kept {
	t.Helper()
	answer := make(chan kept, 2)
	err := p.Append(t.Context(), records, func(from, next int64, err error) { answer <- kept{from, next, err} })
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return answer
}

func awaitKept(t *testing.T, answer <-chan kept) kept {
	t.Helper()
	select {
	case k := <-answer:
		if k.err != nil || k.next <= k.from {
			t.Fatalf("append: [%d, %d), %v", k.from, k.next, k.err)
		}
		return k
	case <-time.After(logPatience):
		t.Fatal("append: done was not called")
		panic("unreachable")
	}
}

// readPrepared returns the records of a range. Passing trouble is not expected.
func readPrepared(t *testing.T, p pipeline.Prepared, from, next int64) (all [][]byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), logPatience)
	defer cancel()
	last := from - 1
	err := p.Read(ctx, from, next, func(m pipeline.Message) error {
		if m.Offset <= last || m.Offset >= next {
			return fmt.Errorf("offset %d after %d", m.Offset, last)
		}
		last = m.Offset
		all = append(all, bytes.Clone(m.Data))
		return nil
	})
	if err != nil {
		t.Fatalf("read [%d, %d): %v", from, next, err)
	}
	return all
}

// ofTag returns the records that begin with a tag: others may be among them.
func ofTag(all [][]byte, tag string) (mine []string) {
	for _, r := range all {
		if bytes.HasPrefix(r, []byte(tag)) {
			mine = append(mine, string(r))
		}
	}
	return mine
}

func sameTexts(t *testing.T, got []string, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != string(want[i]) {
			t.Fatalf("record %d is %.40q, want %.40q", i, got[i], want[i])
		}
	}
}

func preparedOrder(t *testing.T, p PreparedUnderTest) {
	var want [][]byte
	var answers []<-chan kept
	for i := range 300 {
		var call [][]byte
		for j := range i % 4 {
			call = append(call, fmt.Appendf(nil, "a/%d.%d %s", i, j, bytes.Repeat([]byte("x"), 37*i)))
		}
		call = append(call, fmt.Appendf(nil, "a/%d", i))
		want = append(want, call...)
		answers = append(answers, appendPrepared(t, p, call...))
	}
	var whole kept
	for i, a := range answers {
		k := awaitKept(t, a)
		if i == 0 {
			whole = k
		}
		if k.from < whole.from || i > 0 && k.from < whole.next {
			t.Fatalf("append %d is in [%d, %d), behind one up to %d", i, k.from, k.next, whole.next)
		}
		whole.next = max(whole.next, k.next)
		if got := ofTag(readPrepared(t, p, k.from, k.next), fmt.Sprintf("a/%d", i)); i%50 == 3 && len(got) < 1+i%4 {
			t.Fatalf("append %d: [%d, %d) holds %d records of it", i, k.from, k.next, len(got))
		}
	}
	sameTexts(t, ofTag(readPrepared(t, p, whole.from, whole.next), "a/"), want)
}

func preparedTogether(t *testing.T, p PreparedUnderTest) {
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			var want [][]byte
			var whole kept
			for i := range 50 {
				data := fmt.Appendf(nil, "g%d/%d", g, i)
				want = append(want, data)
				answer := make(chan kept, 1)
				if err := p.Append(t.Context(), [][]byte{data}, func(from, next int64, err error) { answer <- kept{from, next, err} }); err != nil {
					t.Error(err)
					return
				}
				k := <-answer
				if k.err != nil {
					t.Error(k.err)
					return
				}
				if i == 0 {
					whole = k
				}
				whole.next = k.next
			}
			i := 0
			err := p.Read(t.Context(), whole.from, whole.next, func(m pipeline.Message) error {
				if i < len(want) && bytes.Equal(m.Data, want[i]) {
					i++
				}
				return nil
			})
			if err != nil || i != len(want) {
				t.Errorf("goroutine %d: %d of %d records, %v", g, i, len(want), err)
			}
		})
	}
	wg.Wait()
}

func preparedReopen(t *testing.T, p PreparedUnderTest) {
	if p.Reopen == nil {
		t.Skip("it lives in this process only")
	}
	want := [][]byte{[]byte("b/1"), []byte("b/2")}
	k := awaitKept(t, appendPrepared(t, p, want...))
	again := p.Reopen()
	sameTexts(t, ofTag(readPrepared(t, again, k.from, k.next), "b/"), want)
	later := awaitKept(t, appendPrepared(t, again, []byte("b/3")))
	if later.from < k.next {
		t.Errorf("after it was opened again it takes offset %d, in use up to %d", later.from, k.next)
	}
}

func preparedGap(t *testing.T, p PreparedUnderTest) {
	var all []kept
	for i := range 40 {
		all = append(all, awaitKept(t, appendPrepared(t, p, fmt.Appendf(nil, "c/%d %s", i, bytes.Repeat([]byte("y"), 1000)))))
	}
	last := all[len(all)-1]
	isGap := func(from, next int64) bool {
		err := p.Read(t.Context(), from, next, func(pipeline.Message) error { return nil })
		_, gap := errors.AsType[*pipeline.LogGapError](err)
		return gap
	}
	if !isGap(last.next, last.next+5) {
		t.Error("reading behind the end is no gap")
	}
	p.Release(all[20].from) // what is kept after that can be read
	if got := ofTag(readPrepared(t, p, all[20].from, last.next), "c/"); len(got) != 20 {
		t.Errorf("%d records, want 20", len(got))
	}
	if p.Drop == nil {
		return
	}
	p.Drop(all[30].from)
	if !isGap(all[0].from, last.next) {
		t.Error("dropped records are no gap")
	}
	if got := ofTag(readPrepared(t, p, all[35].from, last.next), "c/"); len(got) != 5 {
		t.Errorf("%d records behind the gap, want 5", len(got))
	}
}

func preparedEnds(t *testing.T, p PreparedUnderTest) {
	k := awaitKept(t, appendPrepared(t, p, []byte("d/1"), []byte("d/2"), []byte("d/3")))
	enough := errors.New("enough")
	calls := 0
	err := p.Read(t.Context(), k.from, k.next, func(pipeline.Message) error {
		calls++
		return enough
	})
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("fn was called %d times, %v", calls, err)
	}
	if err := p.Read(t.Context(), k.from, k.from, func(pipeline.Message) error { return enough }); err != nil {
		t.Errorf("read of nothing: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Append(ctx, [][]byte{[]byte("x")}, func(int64, int64, error) {}); err == nil {
		t.Error("append after the context's end succeeds")
	}
	if err := p.Read(ctx, k.from, k.next, func(pipeline.Message) error { return nil }); err == nil {
		t.Error("read after the context's end succeeds")
	}
}
