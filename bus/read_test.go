package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestEmbeddedHistoryPassesTheSuite(t *testing.T) {
	pipelinetest.RunHistory(t, func(t *testing.T) pipelinetest.HistoryUnderTest {
		e := openTest(t, EmbeddedConfig{MemoryTail: 1})
		e.disk.bytes = 150
		return pipelinetest.HistoryUnderTest{
			History: e.History(), Publisher: e.Publisher(), Dead: e.DeadLetters(),
			Drop: func(below int64) {
				if err := e.disk.dropBelow(below, 0, 0); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

func TestKafkaHistoryPassesTheSuite(t *testing.T) {
	server := envtest.Kafka(t)
	pipelinetest.RunHistory(t, func(t *testing.T) pipelinetest.HistoryUnderTest {
		k := openKafka(t, server, 2, pipeline.Hooks{})
		return pipelinetest.HistoryUnderTest{
			History: k.History(), Publisher: k.Publisher(), Dead: k.DeadLetters(),
			Drop: func(below int64) { deleteRecords(t, k, 0, below) },
		}
	})
}

// Kafka finds a time exactly, to the millisecond.
func TestKafkaHistoryFindsATime(t *testing.T) {
	k := openKafka(t, envtest.Kafka(t), 1, pipeline.Hooks{})
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	var records []kafka.Record
	for i := range 20 {
		// Two go back in time, as with a tailer on another machine.
		records = append(records, kafka.Record{Value: kafka.NewBytes([]byte("x")), Time: at.Add(time.Duration(i-i/10*5) * time.Second)})
	}
	if err := k.produce(t.Context(), k.config.Topic, 0, records); err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]int64{-5: 0, 0: 0, 3: 3, 7: 7, 9: 9, 12: 17, 20: 20} {
		if got, err := k.History().OffsetAt(t.Context(), 0, at.Add(time.Duration(i)*time.Second)); got != want || err != nil {
			t.Errorf("second %d is at %d, %v; want %d", i, got, err, want)
		}
	}
}

// A topic that is not there is said at once, and no dead letters is no trouble.
func TestKafkaHistoryWithoutTopics(t *testing.T) {
	k := newKafka(t, envtest.Kafka(t), newTopic(), 1, pipeline.Hooks{})
	if all, err := k.History().Bounds(t.Context()); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("bounds %v, %v", all, err)
	}
	err := k.History().DeadLetters(t.Context(), 0, func(d pipeline.DeadLetter) error { return fmt.Errorf("came: %+v", d) })
	if err != nil {
		t.Error(err)
	}
}

// Of the dead letters that retention removed, none is waited for; what is no
// dead letter comes all the same, and so do those of further partitions.
func TestKafkaHistoryDeadLetters(t *testing.T) {
	k := openKafka(t, envtest.Kafka(t), 1, pipeline.Hooks{})
	for i := range 5 {
		if err := k.DeadLetters().Add(t.Context(), pipeline.DeadLetter{Offset: int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	deleteRecordsOf(t, k, k.deadTopic(), 0, 3)
	if err := k.produce(t.Context(), k.deadTopic(), 0, []kafka.Record{{Value: kafka.NewBytes([]byte("strange"))}}); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := k.History().DeadLetters(t.Context(), 1, func(d pipeline.DeadLetter) error {
		got = append(got, fmt.Sprintf("%d %s", d.Offset, d.Data))
		return nil
	})
	if want := []string{"4 ", "5 strange"}; err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

// A file's time says what can be left out, also after the log was opened again.
func TestEmbeddedHistoryFindsAFile(t *testing.T) {
	dir := t.TempDir()
	e, err := OpenEmbedded(EmbeddedConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	e.disk.bytes = 1 // a file per write
	for i := range 3 {
		done := make(chan error, 1)
		if err := e.Publisher().Publish(t.Context(), []pipeline.Record{{Data: fmt.Appendf(nil, "%d", i)}}, func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for i := range 3 {
		at := now.Add(time.Duration(i-3) * time.Hour)
		if err := os.Chtimes(segmentPath(dir, int64(i)), at, at); err != nil {
			t.Fatal(err)
		}
	}
	h := openTest(t, EmbeddedConfig{Dir: dir}).History()
	for minutes, want := range map[int]int64{-300: 0, -180: 0, -150: 1, -120: 1, -90: 2, -60: 2, -10: 3} {
		if got, err := h.OffsetAt(t.Context(), 0, now.Add(time.Duration(minutes)*time.Minute)); got != want || err != nil {
			t.Errorf("%d minutes: %d, %v; want %d", minutes, got, err, want)
		}
	}
}

// What a replay has begun to read is not dropped behind its back, and is later.
func TestEmbeddedHistoryHoldsRecords(t *testing.T) {
	e := openTest(t, EmbeddedConfig{MemoryTail: 1, Retain: time.Nanosecond, RetainBytes: 1})
	e.disk.bytes = 1 // a file per write
	write := func(text string) {
		publishAll(t, e.Publisher(), text)
		owned(t, e.Consumer("invalidator"), func(ctx context.Context, p pipeline.Partition) {
			_, end := e.Bounds()
			if err := p.Store(ctx, pipeline.Cursors{First: end, Second: end}); err != nil {
				t.Error(err)
			}
		})
	}
	start := func() int64 {
		start, _ := e.Bounds()
		return start
	}
	for _, text := range []string{"a", "b", "c", "d"} {
		write(text)
	}
	from := start()
	if from == 0 {
		t.Fatal("nothing was dropped: the test shows nothing")
	}
	_, until := e.Bounds()
	err := e.History().Read(t.Context(), 0, from, until, func(messages []pipeline.Message) error {
		write("x")
		write("y")
		return nil
	})
	if err != nil || start() != from {
		t.Fatalf("while it is read: %v; the log begins at %d, not %d", err, start(), from)
	}
	e.reads.mu.Lock()
	e.reads.began = e.reads.began.Add(-2 * readHold)
	e.reads.mu.Unlock()
	write("z")
	write("z")
	if start() <= from {
		t.Errorf("long after: the log still begins at %d", start())
	}
}

func TestRecentReads(t *testing.T) {
	var r recentReads
	now := time.Now()
	for _, step := range []struct {
		after time.Duration
		read  int64 // -1: none
		want  int64
	}{
		{0, -1, math.MaxInt64}, {0, 50, 50}, {time.Minute, 70, 50}, {time.Minute, 30, 30}, {readHold, 90, 30}, {time.Minute, -1, 30},
		{readHold, -1, 90}, {readHold, -1, math.MaxInt64}, {5 * readHold, 10, 10}, {3 * readHold, -1, math.MaxInt64}, {0, 20, 20},
	} {
		now = now.Add(step.after)
		if step.read >= 0 {
			r.note(step.read, now)
		}
		if got := r.lowest(now); got != step.want {
			t.Errorf("%+v: %d", step, got)
		}
	}
}

// What can pass is tried again, and the rest is not.
func TestKafkaHistoryPatience(t *testing.T) {
	var retries int
	k := &Kafka{logger: testLogger(t), config: KafkaConfig{Hooks: pipeline.Hooks{Retry: func(string, int, error, time.Duration) { retries++ }}}}
	for _, c := range []struct {
		err   error
		final bool
	}{
		{kafka.LeaderNotAvailable, false}, {io.ErrUnexpectedEOF, false}, {context.DeadlineExceeded, false},
		{&pipeline.LogGapError{}, true}, {fmt.Errorf("no: %w", pipeline.ErrFatal), true}, {kafka.TopicAuthorizationFailed, true},
	} {
		retries = 0
		tries := 0
		err := k.patiently(t.Context(), "try", func() error {
			if tries++; tries == 3 {
				return nil
			}
			return c.err
		})
		if c.final != (err != nil) || c.final != (retries == 0) || c.final && !errors.Is(err, c.err) {
			t.Errorf("%v: %v after %d retries", c.err, err, retries)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := k.patiently(ctx, "try", func() error { cancel(); return io.ErrUnexpectedEOF }); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}

// A line that is no dead letter comes all the same; empty lines do not count.
func TestEmbeddedHistoryDeadLetters(t *testing.T) {
	dir := t.TempDir()
	lines := "\n{\"partition\":\"p/0\",\"offset\":3,\"reason\":\"why\",\"data\":\"eA==\"}\n\nstrange\n{\"offset\":5}\n"
	if err := os.WriteFile(filepath.Join(dir, "dead.jsonl"), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	e := openTest(t, EmbeddedConfig{Dir: dir})
	for skip, want := range [][]string{{"3 x", "1 strange", "5 "}, {"1 strange", "5 "}} {
		var got []string
		err := e.History().DeadLetters(t.Context(), int64(skip), func(d pipeline.DeadLetter) error {
			got = append(got, fmt.Sprintf("%d %s", d.Offset, d.Data))
			return nil
		})
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}
