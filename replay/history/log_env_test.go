package history

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

const testUUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

func parseSchema(t *testing.T, text string) *keys.Schema {
	t.Helper()
	s, err := keys.Parse("keys.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const itemSchema = `
version: 1
keys:
  - name: item
    table: shop.item
    key: "item:{id}"
`

// place is a log with two partitions at most, wherever it is.
type place struct {
	log       replay.Log
	publisher pipeline.Publisher
	dead      pipeline.DeadLetters
}

// places are the logs that a replay reads.
func places(t *testing.T, run func(t *testing.T, p place)) {
	t.Run("kafka", func(t *testing.T) {
		k, err := bus.NewKafka(bus.KafkaConfig{Brokers: envtest.Kafka(t).Addrs(), Topic: envtest.Topic(t), Partitions: 2})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = k.Close(context.Background()) })
		if _, err := k.EnsureTopics(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		run(t, place{k.History(), k.Publisher(), k.DeadLetters()})
	})
	t.Run("embedded", func(t *testing.T) {
		e, _ := embedded(t)
		run(t, place{e.History(), e.Publisher(), e.DeadLetters()})
	})
	t.Run("embedded in another process", func(t *testing.T) {
		e, dir := embedded(t)
		run(t, place{clientOf(t, pages(t, e.History(), dir), dir, pipeline.Hooks{}), e.Publisher(), e.DeadLetters()})
	})
}

// changed returns an event of rows of shop.item, as the tailer writes it.
func changed(n int, at time.Time, rows int) string {
	return changedAs(n, at, rows, "shop", "item", "id", "")
}

func changedAs(n int, at time.Time, rows int, db, table, column, schema string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"v":1,"kind":"changes","source":"shop","gtid":"%s:%d","seq":0`, testUUID, n)
	if !at.IsZero() {
		fmt.Fprintf(&b, `,"committed_us":%d`, at.UnixMicro())
	}
	fmt.Fprintf(&b, `,"schema":%q,"tables":[{"db":%q,"table":%q,"columns":[%q],"rows":[`, schema, db, table, column)
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"after":[%d]}`, n*1000+i)
	}
	b.WriteString(`]}]}`)
	return b.String()
}

func progressed(upTo int, schema string) string {
	return fmt.Sprintf(`{"v":1,"kind":"progress","source":"shop","gtid":"%s:1-%d","seq":0,"schema":%q,"partition":0,"partitions":1}`, testUUID, upTo, schema)
}

// fill publishes records to a partition and waits until all are durable.
func (p place) fill(t *testing.T, partition int, records ...string) {
	t.Helper()
	list := make([]pipeline.Record, len(records))
	for i, r := range records {
		list[i] = pipeline.Record{Partition: partition, Data: []byte(r)}
	}
	done := make(chan error, 1)
	if err := p.publisher.Publish(t.Context(), list, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// read returns all chunks behind a cursor.
func read(t *testing.T, s replay.Source, from replay.Cursor) (chunks []replay.Chunk) {
	t.Helper()
	done := 0.0
	err := s.Read(t.Context(), from, func(_ context.Context, c replay.Chunk) error {
		if c.Done < done || c.Done > 1 {
			t.Errorf("done goes from %f to %f", done, c.Done)
		}
		done = c.Done
		chunks = append(chunks, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(chunks) > 0 && done != 1 {
		t.Errorf("at the end it is done to %f", done)
	}
	return chunks
}

// gtids names what chunks hold: transactions by their number, and whole
// invalidations by what they are of.
func gtids(chunks []replay.Chunk) (all []string) {
	for _, c := range chunks {
		for _, e := range c.Events {
			switch {
			case e.Kind == pipeline.KindInvalidate:
				all = append(all, fmt.Sprint(e.Scopes[0].DB, ".", e.Scopes[0].Table))
			default:
				all = append(all, strings.TrimPrefix(e.GTID, testUUID+":"))
			}
		}
	}
	return all
}

func rowsOf(chunks []replay.Chunk) (n int64) {
	for _, c := range chunks {
		n += c.Rows
	}
	return n
}

func planLog(t *testing.T, s replay.Source, err error) replay.Plan {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func numbers1(from, until int) (list []string) {
	for i := from; i < until; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

// opened opens a source as a resumed replay does.
func opened(t *testing.T, d LogDeps, fixed []byte) *LogSource {
	t.Helper()
	s, err := OpenLog(d, fromJSON[LogSpec](t, fixed))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// memoryLog is a log in memory whose front can be missing.
type memoryLog struct {
	start   int64
	records []string
	letters []pipeline.DeadLetter
	times   func(time.Time) int64
}

func (l *memoryLog) Bounds(context.Context) ([]pipeline.Bounds, error) {
	return []pipeline.Bounds{{Start: l.start, End: l.start + int64(len(l.records))}}, nil
}

func (l *memoryLog) OffsetAt(_ context.Context, _ int, t time.Time) (int64, error) {
	if l.times == nil {
		return l.start, nil
	}
	return l.times(t), nil
}

func (l *memoryLog) Read(ctx context.Context, _ int, from, until int64, fn func([]pipeline.Message) error) error {
	for ; from < until; from++ {
		if from < l.start {
			return &pipeline.LogGapError{From: from, Start: l.start}
		}
		if err := fn([]pipeline.Message{{Offset: from, Data: []byte(l.records[from-l.start])}}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (l *memoryLog) DeadLetters(_ context.Context, skip int64, fn func(pipeline.DeadLetter) error) error {
	for i, letter := range l.letters {
		if int64(i) >= skip {
			if err := fn(letter); err != nil {
				return err
			}
		}
	}
	return nil
}
