package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// CheckSource is a tailer's preflight: it refuses a topic in which the newest
// position is that of another source. Two sources in one topic would each take the
// other's progress for its own, so that trust, the readers' gate and WaitInvalidated
// were about neither. It asks the positions, not the events: a tailer need not be
// allowed to read the topic. ctx bounds it; it changes nothing.
func (k *Kafka) CheckSource(ctx context.Context, source string) ([]pipeline.Finding, error) {
	topic := k.positionsTopic()
	n, err := k.partitions(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("look for topic %s: %w", topic, k.explain(err))
	}
	if n == 0 {
		return nil, nil
	}
	newest, err := k.newestSource(ctx)
	for until := time.Now().Add(topicPatience); passing(err) && ctx.Err() == nil && time.Now().Before(until); {
		pause(ctx, 100*time.Millisecond) // a topic made just now has leaders that do not know it yet
		newest, err = k.newestSource(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("look in %s whose topic it is: %w", topic, k.explain(err))
	}
	if newest == "" || newest == source {
		return nil, nil
	}
	return []pipeline.Finding{refused("kafka topic "+k.live,
		fmt.Sprintf("it belongs to the source %q: its newest position in %s is not one of %q", newest, topic, source),
		fmt.Sprintf("give %q a topic of its own (log.kafka.topic, and invalidators with the same one); or, if it is the same source under another address, set source.name to %q", source, newest))}, nil
}

// passing says that kafka answered, with what another try may mend.
func passing(err error) bool {
	answer, ok := errors.AsType[kafka.Error](err)
	return ok && answer.Temporary()
}

// newestSource returns the source that stored a position last, of those whose
// positions were not deleted; "" if none has.
func (k *Kafka) newestSource(ctx context.Context) (newest string, err error) {
	at := map[string]int64{}
	err = k.scan(ctx, k.positionsTopic(), func(r fetchedRecord) error {
		if r.value == nil {
			delete(at, string(r.key))
		} else {
			at[string(r.key)] = r.offset
		}
		return nil
	})
	for name, offset := range at {
		if newest == "" || offset > at[newest] {
			newest = name
		}
	}
	return newest, err
}
