package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Prepared returns the place for the rows of prepared XA transactions, the topic
// beside the events. Tailers of several sources may share it. It ends with Close.
func (k *Kafka) Prepared() pipeline.Prepared {
	return kafkaPrepared{k, k.publisher(k.preparedTopic(), 1)}
}

type kafkaPrepared struct {
	k *Kafka
	p *kafkaPublisher
}

// Append implements pipeline.Prepared.
func (q kafkaPrepared) Append(ctx context.Context, records [][]byte, done func(from, next int64, err error)) error {
	list := make([]pipeline.Record, len(records))
	for i, data := range records {
		list[i].Data = data
	}
	call := new(kafkaCall)
	call.done = func(err error) { done(call.first.Load(), call.last.Load()+1, err) }
	return q.p.publish(ctx, list, call)
}

// preparedFetch is about how much is read at a time: rows compress to a fraction.
const preparedFetch = 64 << 10

// Read implements pipeline.Prepared.
func (q kafkaPrepared) Read(ctx context.Context, from, next int64, fn func(pipeline.Message) error) error {
	topic := q.k.preparedTopic()
	for from < next {
		f, err := q.k.fetchUpTo(ctx, topic, 0, from, preparedFetch)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		outside := errors.Is(err, kafka.OffsetOutOfRange)
		if err != nil && !outside {
			return fmt.Errorf("read %s at %d: %w", topic, from, q.k.explain(err))
		}
		if outside || f.empty && f.end < next {
			if err := q.check(ctx, from, next); err != nil {
				return err
			}
			continue // it was a former leader that had not got that far
		}
		for _, r := range f.records {
			if r.offset >= next {
				return nil
			}
			if err := fn(pipeline.Message{Offset: r.offset, Data: r.value}); err != nil {
				return err
			}
		}
		from = f.next
		if f.jump > 0 && from < next {
			return &pipeline.LogGapError{From: from, Start: f.jump}
		}
	}
	return nil
}

// check returns a gap where the topic does not hold all of [from, next).
func (q kafkaPrepared) check(ctx context.Context, from, next int64) error {
	start, end, err := q.k.boundsFrom(ctx, q.k.preparedTopic(), 0, next)
	if err != nil {
		return fmt.Errorf("read %s at %d: %w", q.k.preparedTopic(), from, q.k.explain(err))
	}
	if from < start || next > end {
		return &pipeline.LogGapError{From: from, Start: start}
	}
	return ctx.Err()
}

// Release implements pipeline.Prepared. The topic's retention removes records.
func (q kafkaPrepared) Release(int64) {}
