package pipelinetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// HistoryUnderTest is the history of a fresh, empty log, as RunHistory uses it.
type HistoryUnderTest struct {
	pipeline.History
	Publisher pipeline.Publisher
	Dead      pipeline.DeadLetters
	// Drop removes the records of partition 0 below an offset, or as many of them
	// as the log can; nil where there is no way.
	Drop func(below int64)
}

// RunHistory is the suite for the seam History. open makes an empty log, for each
// part of the suite.
func RunHistory(t *testing.T, open func(t *testing.T) HistoryUnderTest) {
	parts := []struct {
		name string
		run  func(*testing.T, HistoryUnderTest)
	}{
		{"an empty log has nothing", historyEmpty},
		{"ranges are read as they were published", historyRanges},
		{"a time is found", historyTimes},
		{"what is not there is a gap", historyGaps},
		{"dead letters are read in order", historyDead},
	}
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) { p.run(t, open(t)) })
	}
}

func historyEmpty(t *testing.T, h HistoryUnderTest) {
	all, err := h.Bounds(t.Context())
	if err != nil || len(all) != h.Publisher.Partitions() {
		t.Fatalf("bounds %v of %d partitions, %v", all, h.Publisher.Partitions(), err)
	}
	for p, b := range all {
		if b != (pipeline.Bounds{}) {
			t.Errorf("partition %d has %+v", p, b)
		}
		if at, err := h.OffsetAt(t.Context(), p, time.Now().Add(-time.Hour)); at != 0 || err != nil {
			t.Errorf("partition %d at a time: %d, %v", p, at, err)
		}
		if err := h.Read(t.Context(), p, 0, 0, func([]pipeline.Message) error { return errors.New("something came") }); err != nil {
			t.Error(err)
		}
	}
	if err := h.DeadLetters(t.Context(), 0, func(d pipeline.DeadLetter) error { return fmt.Errorf("came: %+v", d) }); err != nil {
		t.Error(err)
	}
}

// readHistory reads a range and checks that the offsets have no holes.
func readHistory(t *testing.T, h pipeline.History, partition int, from, until int64) (data [][]byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), logPatience)
	defer cancel()
	at := from
	err := h.Read(ctx, partition, from, until, func(messages []pipeline.Message) error {
		for _, m := range messages {
			if m.Offset != at {
				return fmt.Errorf("offset %d came, want %d", m.Offset, at)
			}
			at++
			data = append(data, m.Data)
		}
		return nil
	})
	if err != nil || at != until {
		t.Fatalf("read [%d, %d): ends at %d, %v", from, until, at, err)
	}
	return data
}

func historyRanges(t *testing.T, h HistoryUnderTest) {
	const each = 300
	want := make([][][]byte, h.Publisher.Partitions())
	for i := range each {
		for p := range want {
			// Some are so long that a read has to be divided.
			data := fmt.Appendf(nil, "%d/%d %s", p, i, strings.Repeat("x", i%7*3000))
			want[p] = append(want[p], data)
			if i == each-1 { // the last one is waited for, and so all are durable
				publish(t, h.Publisher, p, data)
				continue
			}
			if err := h.Publisher.Publish(t.Context(), []pipeline.Record{{Partition: p, Data: data}}, func(error) {}); err != nil {
				t.Fatal(err)
			}
		}
	}
	all, err := h.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for p, b := range all {
		if b != (pipeline.Bounds{Start: 0, End: each}) {
			t.Fatalf("partition %d has %+v", p, b)
		}
		for _, r := range [][2]int64{{0, each}, {0, 1}, {17, 18}, {100, 250}, {each - 1, each}, {40, 40}} {
			if got := readHistory(t, h, p, r[0], r[1]); len(got) > 0 && !reflect.DeepEqual(got, want[p][r[0]:r[1]]) {
				t.Errorf("partition %d, [%d, %d): other records", p, r[0], r[1])
			}
		}
	}
	mine := errors.New("mine")
	calls := 0
	err = h.Read(t.Context(), 0, 0, each, func([]pipeline.Message) error { calls++; return mine })
	if err != mine || calls != 1 {
		t.Errorf("fn failed: %v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = h.Read(ctx, 0, 0, each, func([]pipeline.Message) error { cancel(); return ctx.Err() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}

func historyTimes(t *testing.T, h HistoryUnderTest) {
	publish(t, h.Publisher, 0, []byte("before"))
	time.Sleep(5 * time.Millisecond) // clocks of a log count milliseconds
	between := time.Now()
	time.Sleep(5 * time.Millisecond)
	publish(t, h.Publisher, 0, []byte("after"))
	for _, c := range []struct {
		at      time.Time
		highest int64
	}{{time.Time{}, 0}, {time.Unix(0, 0), 0}, {between.Add(-time.Hour), 0}, {between, 1}, {between.Add(time.Hour), 2}} {
		got, err := h.OffsetAt(t.Context(), 0, c.at)
		if err != nil || got < 0 || got > c.highest {
			t.Errorf("at %v: %d, %v; want at most %d", c.at, got, err, c.highest)
		}
	}
}

func historyGaps(t *testing.T, h HistoryUnderTest) {
	for i := range 20 {
		publish(t, h.Publisher, 0, fmt.Appendf(nil, "record %d", i))
	}
	never := func([]pipeline.Message) error { return errors.New("something came") }
	check := func(what string, from, until, start int64) {
		t.Helper()
		gap, ok := errors.AsType[*pipeline.LogGapError](h.Read(t.Context(), 0, from, until, never))
		if !ok || gap.From != from || gap.Start != start {
			t.Errorf("%s: %+v, want a gap from %d to %d", what, gap, from, start)
		}
	}
	check("behind the end", 20, 21, 0)
	if h.Drop == nil {
		return
	}
	h.Drop(10)
	all, err := h.Bounds(t.Context())
	if err != nil || all[0].Start == 0 || all[0].Start > 10 || all[0].End != 20 {
		t.Fatalf("bounds %v, %v", all, err)
	}
	check("removed", 0, 20, all[0].Start)
	if got := readHistory(t, h, 0, all[0].Start, 20); !bytes.HasSuffix(got[len(got)-1], []byte("record 19")) {
		t.Errorf("the last one is %q", got[len(got)-1])
	}
	if at, err := h.OffsetAt(t.Context(), 0, time.Now().Add(-time.Hour)); at != all[0].Start || err != nil {
		t.Errorf("an early time: %d, %v; want %d", at, err, all[0].Start)
	}
}

func historyDead(t *testing.T, h HistoryUnderTest) {
	want := []pipeline.DeadLetter{
		{Partition: "p/0", Offset: 7, Reason: "it is not an event", Data: []byte{0, 0xff, '\n', '{'}},
		{Partition: "p/1", Offset: 8, Reason: "too new", Data: bytes.Repeat([]byte("long "), 50_000)},
		{Partition: "p/1", Offset: 8, Reason: "too new, once more", Data: []byte("x")},
		{Partition: "p/0", Offset: 9, Reason: "no data"},
	}
	for _, letter := range want {
		if err := h.Dead.Add(t.Context(), letter); err != nil {
			t.Fatal(err)
		}
	}
	for skip := range len(want) + 2 {
		var got []pipeline.DeadLetter
		err := h.DeadLetters(t.Context(), int64(skip), func(d pipeline.DeadLetter) error {
			got = append(got, d)
			return nil
		})
		if rest := want[min(skip, len(want)):]; err != nil || len(got) != len(rest) || len(rest) > 0 && !reflect.DeepEqual(got, rest) {
			t.Errorf("from %d on: %d letters, %v", skip, len(got), err)
		}
	}
	mine := errors.New("mine")
	if err := h.DeadLetters(t.Context(), 1, func(pipeline.DeadLetter) error { return mine }); err != mine {
		t.Errorf("fn failed: %v", err)
	}
}
