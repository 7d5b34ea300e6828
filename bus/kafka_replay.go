package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Replayed records are handled in smaller steps than live ones, which have to wait
// for a processor in between: a fetch brings one batch, unless that compresses to
// less than replayFetch.
const (
	replayBatch = 128 << 10
	replayFetch = 8 << 10
)

// Replay returns the log of replays: a topic of its own beside the live one, with
// as many partitions, so that live changes never queue behind what is replayed.
// Positions, Prepared and DeadLetters are those of the live log; Publisher,
// Consumer, History and Backlog are about the topic of replays. Its consumers
// need a group of their own, in which cursors are stored as in any other.
//
// A partition without stored cursors begins at its oldest record, and where the
// topic has dropped records by then, with an invalidation of everything, as in
// the live log: somebody wanted them handled, and nobody did. In a topic to which
// nothing was ever published, or which still has all of it, nothing is missed.
func (k *Kafka) Replay() *Kafka {
	r := &Kafka{
		config: k.config, logger: k.logger, transport: k.transport, dialer: k.dialer, producing: k.producing, reading: k.reading,
		settle: k.settle, compression: k.compression, batch: replayBatch, atOnce: replayFetch, live: k.live, open: k.open, reached: k.reached,
	}
	r.config.Topic = k.replayTopic()
	return r
}

// Backlog returns how many records the stored cursors of a consumer group are
// behind the end, of all partitions together and for each pass: what is still to
// be handled, and what was handled since cursors were last stored, which is less
// than a second. Where none are stored, or none that fit this log, all records
// count. What is owed without a record counts as one: to a reader that is out, the
// second deletes that were made without it; and an invalidation of everything where
// records were dropped unread. It tries once, and changes nothing.
func (k *Kafka) Backlog(ctx context.Context, consumer string) (first, second int64, err error) {
	first, second, err = k.backlog(ctx, consumer)
	if err != nil {
		return 0, 0, fmt.Errorf("look how far group %s is behind in %s: %w", consumer, k.config.Topic, k.explain(err))
	}
	return first, second, nil
}

func (k *Kafka) backlog(ctx context.Context, group string) (first, second int64, err error) {
	topic := k.config.Topic
	n, err := k.partitions(ctx, topic)
	if err != nil {
		return 0, 0, err
	}
	if n == 0 {
		return 0, 0, errors.New("the topic does not exist; start the tailer or an invalidator first, which create it")
	}
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i
	}
	// The cursors come before the ends: a record that is published and handled in
	// between counts as one that is still to be handled, never the other way.
	res, err := k.reading.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: ids}})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return 0, 0, err
	}
	starts, err := k.offsets(ctx, topic, ids, kafka.FirstOffset)
	if err != nil {
		return 0, 0, err
	}
	ends, err := k.offsets(ctx, topic, ids, kafka.LastOffset)
	if err != nil {
		return 0, 0, err
	}
	seen := 0
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return 0, 0, fmt.Errorf("partition %d: %w", p.Partition, p.Error)
		}
		start, end := starts[p.Partition], ends[p.Partition]
		stored := committedOf(p)
		c := pipeline.Cursors{First: max(stored.First, stored.second), Second: stored.second, Marks: string(stored.Marks)}
		switch {
		case stored.reached() > end:
			c = unfit
		case stored.second < 0:
			c = pipeline.Cursors{}
		}
		a, b := behind(c, start, end)
		first, second = first+a, second+b
		seen++
	}
	if seen != n {
		return 0, 0, fmt.Errorf("fetch offsets: the answer is about %d of %d partitions", seen, n)
	}
	return first, second, nil
}

// offsets returns the first or the last offset of partitions.
func (k *Kafka) offsets(ctx context.Context, topic string, partitions []int, which int64) (map[int]int64, error) {
	var ask []kafka.OffsetRequest
	for _, id := range partitions {
		ask = append(ask, kafka.OffsetRequest{Partition: id, Timestamp: which})
	}
	res, err := k.reading.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: ask}})
	if err != nil {
		return nil, err
	}
	all := map[int]int64{}
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("list offsets of %s/%d: %w", topic, p.Partition, p.Error)
		}
		all[p.Partition] = max(p.FirstOffset, p.LastOffset)
	}
	if len(all) != len(partitions) {
		return nil, fmt.Errorf("list offsets of %s: the answer is about %d of %d partitions", topic, len(all), len(partitions))
	}
	return all, nil
}
