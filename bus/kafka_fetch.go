package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// fetched is the answer to one fetch.
type fetched struct {
	records []fetchedRecord
	next    int64 // where to go on
	end     int64 // the high watermark
	empty   bool  // nothing came
	// jump is set where the log goes on at a higher offset than next, past
	// records that it no longer has: where, and why one must not just go on, is
	// the caller's affair.
	jump int64
}

type fetchedRecord struct {
	offset     int64
	key, value []byte
}

// fetch reads a partition from an offset on. It returns after fetchWait if there
// is nothing. Transactions' control records are left out, but their offsets count.
func (k *Kafka) fetch(ctx context.Context, topic string, partition int, from int64) (fetched, error) {
	return k.fetchUpTo(ctx, topic, partition, from, k.atOnce)
}

// fetchUpTo is fetch with a limit, in bytes as Kafka stores them: compressed. One
// batch comes in any case.
func (k *Kafka) fetchUpTo(ctx context.Context, topic string, partition int, from int64, limit int64) (fetched, error) {
	res, err := k.reading.Fetch(noDeadline{ctx}, &kafka.FetchRequest{
		Topic: topic, Partition: partition, Offset: from, MinBytes: 1, MaxBytes: limit, MaxWait: fetchWait,
	})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return fetched{}, err
	}
	f := fetched{next: from, end: res.HighWatermark}
	stream, ok := res.Records.(*protocol.RecordStream)
	if !ok || len(stream.Records) == 0 {
		f.empty = true
		return f, nil
	}
	for _, batch := range stream.Records {
		_, control := batch.(*protocol.ControlBatch)
		if err := f.add(batch, control); err != nil {
			return f, err
		}
		if f.jump > 0 {
			break
		}
	}
	return f, nil
}

// noDeadline is a context that ends with the one in it, but hides its deadline:
// kafka-go would put that on the connection, which then breaks a moment before
// the context ends, and looks like trouble with the broker.
type noDeadline struct{ context.Context }

func (noDeadline) Deadline() (time.Time, bool) { return time.Time{}, false }

// add reads one batch. kafka-go skips batches that it cannot decode where others
// could be (protocol/record.go), which shows as a jump.
func (f *fetched) add(batch protocol.RecordReader, control bool) error {
	for {
		r, err := batch.ReadRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("decode record %d: %w", f.next, err)
		}
		if r.Offset < f.next { // a batch begins before the offset asked for
			continue
		}
		if r.Offset > f.next {
			f.jump = r.Offset
			return nil
		}
		f.next = r.Offset + 1
		if control {
			continue
		}
		record := fetchedRecord{offset: r.Offset}
		if record.key, err = readBytes(r.Key); err == nil {
			record.value, err = readBytes(r.Value)
		}
		if err != nil {
			return fmt.Errorf("decode record %d: %w", r.Offset, err)
		}
		f.records = append(f.records, record)
	}
}

// readBytes copies b and gives its pages back to kafka-go's pool.
func readBytes(b protocol.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	data, err := protocol.ReadAll(b)
	return data, errors.Join(err, b.Close())
}

// bounds returns a partition's first offset and its high watermark.
func (k *Kafka) bounds(ctx context.Context, topic string, partition int) (start, end int64, err error) {
	for _, which := range []struct {
		at     int64
		offset *int64
	}{{kafka.FirstOffset, &start}, {kafka.LastOffset, &end}} {
		res, err := k.reading.ListOffsets(ctx, &kafka.ListOffsetsRequest{
			Topics: map[string][]kafka.OffsetRequest{topic: {{Partition: partition, Timestamp: which.at}}},
		})
		if err != nil {
			return 0, 0, err
		}
		if len(res.Topics[topic]) != 1 {
			return 0, 0, fmt.Errorf("list offsets of %s/%d: no answer for it", topic, partition)
		}
		p := res.Topics[topic][0]
		if p.Error != nil {
			return 0, 0, p.Error
		}
		*which.offset = max(p.FirstOffset, p.LastOffset)
	}
	return start, end, nil
}

// settle is how long an end below what is known to have been reached must stay
// so before it counts as a loss: a leader that was frozen answers for a moment
// as if it still led, and kafka-go sends no leader epoch that would stop it.
const settle = 5 * time.Second

// boundsFrom returns a partition's bounds; where the end is below an offset that
// is known to have been reached, only after it has stayed so.
func (k *Kafka) boundsFrom(ctx context.Context, topic string, partition int, reached int64) (start, end int64, err error) {
	for until := time.Now().Add(k.settle); ; {
		start, end, err = k.bounds(ctx, topic, partition)
		if err != nil || end >= reached || time.Now().After(until) {
			return start, end, err
		}
		pause(ctx, k.settle/5)
	}
}
