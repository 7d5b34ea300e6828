package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// History returns what the topic holds now, without any cursors. Records are
// fetched by offset, not by kafka-go's Reader, which skips what retention removed
// without a word (v0.4.51 reader.go).
func (k *Kafka) History() pipeline.History { return kafkaHistory{k} }

type kafkaHistory struct{ k *Kafka }

// Bounds implements pipeline.History: of all partitions that the topic has, which
// may be more than the tailer uses.
func (h kafkaHistory) Bounds(ctx context.Context) (all []pipeline.Bounds, err error) {
	topic := h.k.config.Topic
	err = h.k.patiently(ctx, "look up the bounds of "+topic, func() error {
		all, err = h.k.allBounds(ctx, topic)
		if err == nil && len(all) == 0 {
			err = fmt.Errorf("topic %s does not exist; check log.kafka.topic and log.kafka.brokers: %w", topic, pipeline.ErrFatal)
		}
		return err
	})
	return all, err
}

// allBounds returns the bounds of each partition; none where there is no topic.
func (k *Kafka) allBounds(ctx context.Context, topic string) ([]pipeline.Bounds, error) {
	n, err := k.partitions(ctx, topic)
	if err != nil {
		return nil, err
	}
	all := make([]pipeline.Bounds, n)
	for i := range all {
		if all[i].Start, all[i].End, err = k.bounds(ctx, topic, i); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// OffsetAt implements pipeline.History. The log's clock is that of whoever
// published, unless the topic says otherwise (message.timestamp.type).
func (h kafkaHistory) OffsetAt(ctx context.Context, partition int, t time.Time) (at int64, err error) {
	topic := h.k.config.Topic
	err = h.k.patiently(ctx, fmt.Sprintf("look up %v in %s/%d", t, topic, partition), func() error {
		at, err = h.k.offsetAt(ctx, topic, partition, t)
		return err
	})
	return at, err
}

func (k *Kafka) offsetAt(ctx context.Context, topic string, partition int, t time.Time) (int64, error) {
	// The end is asked for first: what is appended after it may lie after t.
	start, end, err := k.bounds(ctx, topic, partition)
	if err != nil || t.UnixMilli() <= 0 { // negative times have meanings of their own
		return start, err
	}
	res, err := k.reading.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: {{Partition: partition, Timestamp: t.UnixMilli()}}},
	})
	if err != nil {
		return 0, err
	}
	if len(res.Topics[topic]) != 1 {
		return 0, fmt.Errorf("list offsets of %s/%d: no answer for it", topic, partition)
	}
	found := res.Topics[topic][0]
	if found.Error != nil {
		return 0, found.Error
	}
	for offset := range found.Offsets { // one; -1 where every record is older
		if offset >= 0 {
			end = min(end, offset)
		}
	}
	return max(start, end), nil
}

// Read implements pipeline.History.
func (h kafkaHistory) Read(ctx context.Context, partition int, from, until int64, fn func([]pipeline.Message) error) error {
	return h.k.readRange(ctx, h.k.config.Topic, partition, from, until, func(records []fetchedRecord) error {
		messages := make([]pipeline.Message, len(records))
		for i, r := range records {
			messages[i] = pipeline.Message{Offset: r.offset, Data: r.value}
		}
		return fn(messages)
	})
}

func (k *Kafka) readRange(ctx context.Context, topic string, partition int, from, until int64, fn func([]fetchedRecord) error) error {
	for from < until {
		var f fetched
		err := k.patiently(ctx, fmt.Sprintf("read %s/%d at %d", topic, partition, from), func() (err error) {
			f, err = k.fetchIn(ctx, topic, partition, from, until)
			return err
		})
		if err != nil {
			return err
		}
		n := len(f.records)
		for n > 0 && f.records[n-1].offset >= until {
			n--
		}
		if n > 0 {
			if err := fn(f.records[:n]); err != nil {
				return err
			}
		}
		from = f.next
	}
	return nil
}

// fetchIn fetches from an offset on, of records of which those below until are
// known to have been there. A gap is an error.
func (k *Kafka) fetchIn(ctx context.Context, topic string, partition int, from, until int64) (fetched, error) {
	f, err := k.fetch(ctx, topic, partition, from)
	switch {
	case errors.Is(err, kafka.OffsetOutOfRange), err == nil && f.empty:
		start, end, err := k.boundsFrom(ctx, topic, partition, until)
		if err != nil {
			return f, err
		}
		if from < start || until > end {
			return f, &pipeline.LogGapError{From: from, Start: start}
		}
		return f, fmt.Errorf("no record came, though there are some up to %d", end) // a former leader answered
	case err != nil:
		return f, err
	case f.next == from: // a hole: in a topic that is neither compacted nor truncated there are none
		return f, &pipeline.LogGapError{From: from, Start: max(f.jump, from+1)}
	}
	return f, nil
}

// DeadLetters implements pipeline.History: of all partitions of the topic beside
// the log's, one after another. What retention removed is not there any more.
func (h kafkaHistory) DeadLetters(ctx context.Context, skip int64, fn func(pipeline.DeadLetter) error) error {
	topic := h.k.deadTopic()
	var all []pipeline.Bounds
	err := h.k.patiently(ctx, "look for dead letters in "+topic, func() (err error) {
		all, err = h.k.allBounds(ctx, topic)
		return err
	})
	if err != nil {
		return err
	}
	for partition, b := range all {
		err := h.k.readDead(ctx, topic, partition, b, func(letter pipeline.DeadLetter) error {
			if skip--; skip >= 0 {
				return nil
			}
			return fn(letter)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (k *Kafka) readDead(ctx context.Context, topic string, partition int, b pipeline.Bounds, fn func(pipeline.DeadLetter) error) error {
	place := fmt.Sprintf("%s/%d", topic, partition)
	for from := b.Start; from < b.End; {
		err := k.readRange(ctx, topic, partition, from, b.End, func(records []fetchedRecord) error {
			for _, r := range records {
				from = r.offset + 1
				if err := fn(letterOf(r.value, place, r.offset)); err != nil {
					return err
				}
			}
			return nil
		})
		gap, ok := errors.AsType[*pipeline.LogGapError](err)
		if !ok || gap.Start <= from {
			return err
		}
		start, _, err := k.bounds(ctx, topic, partition)
		if err != nil {
			return fmt.Errorf("read %s: %w", place, k.explain(err))
		}
		if start <= gap.From { // retention did not do it
			unread := pipeline.DeadLetter{Partition: place, Offset: gap.From, Reason: fmt.Sprintf("the dead letters below offset %d cannot be read", gap.Start)}
			if err := fn(unread); err != nil {
				return err
			}
		}
		from = gap.Start
	}
	return nil
}

// letterOf parses a dead letter. Where it is none, it becomes the reason of one
// that names the place it is in.
func letterOf(data []byte, place string, offset int64) pipeline.DeadLetter {
	var letter pipeline.DeadLetter
	if err := json.Unmarshal(data, &letter); err != nil {
		return pipeline.DeadLetter{Partition: place, Offset: offset, Reason: "it is not in the form of a dead letter: " + err.Error(), Data: data}
	}
	return letter
}

// patiently calls fn until it succeeds, ctx ends, or no further try can help.
func (k *Kafka) patiently(ctx context.Context, op string, fn func() error) error {
	for attempt := 1; ; attempt++ {
		err := fn()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		_, gap := errors.AsType[*pipeline.LogGapError](err)
		if gap || errors.Is(err, pipeline.ErrFatal) || errors.Is(err, kafka.TopicAuthorizationFailed) {
			return fmt.Errorf("%s: %w", op, k.explain(err))
		}
		wait := backoff(attempt)
		reportRetry(k.config.Hooks, k.logger, op, attempt, k.explain(err), wait)
		pause(ctx, wait)
	}
}
