package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

const (
	// publishBuffer bounds the records that wait for their acknowledgement, in bytes.
	publishBuffer = 16 << 20
	// batchBytes bounds one request, but that of a larger record; it is well below
	// the topic's max.message.bytes.
	batchBytes = 512 << 10
)

// kafkaPublisher sends each partition's records in order, one request at a time,
// and several partitions at once. A request holds what is waiting when the one
// before it was acknowledged: there is no linger. kafka.Writer is not used: it
// gives up after some attempts, and goes on with the next batch (writer.go).
//
// A request that timed out may still be carried out later, so a record can be in
// the log twice, the second time behind newer ones. Deletes commute.
type kafkaPublisher struct {
	k     *Kafka
	topic string

	mu      sync.Mutex
	queues  []queue
	waiting int64 // bytes not yet acknowledged
	closed  error
	moved   notifier // waiting went down, or closed was set
	senders sync.WaitGroup
	giveUp  context.Context
	cancel  context.CancelFunc
}

// queue is what waits for one partition's next request.
type queue struct {
	records []queued
	grown   notifier
}

type queued struct {
	data []byte
	call *kafkaCall
}

func (q queued) size() int64 { return int64(len(q.data)) + recordOverhead }

// kafkaCall is one Publish.
type kafkaCall struct {
	left atomic.Int64 // records without an answer
	err  atomic.Pointer[error]
	// first and last are its records' offsets, where all are in one partition.
	first, last atomic.Int64
	done        func(error)
}

// finish notes the answer for one record.
func (c *kafkaCall) finish(offset int64, err error) {
	if err != nil {
		c.err.CompareAndSwap(nil, &err)
	} else {
		c.first.CompareAndSwap(-1, offset)
		c.last.Store(offset) // a partition has one sender
	}
	if c.left.Add(-1) > 0 {
		return
	}
	if failed := c.err.Load(); failed != nil {
		err = *failed
	}
	c.done(err)
}

// Publisher starts a publisher, the only one of this log. It ends with Close.
func (k *Kafka) Publisher() pipeline.Publisher {
	return k.publisher(k.config.Topic, k.config.Partitions)
}

func (k *Kafka) publisher(topic string, partitions int) *kafkaPublisher {
	p := &kafkaPublisher{k: k, topic: topic, queues: make([]queue, partitions)}
	p.giveUp, p.cancel = context.WithCancel(context.Background())
	for i := range p.queues {
		p.senders.Go(func() { p.send(i) })
	}
	k.open.mu.Lock()
	defer k.open.mu.Unlock()
	k.open.all = append(k.open.all, p)
	return p
}

// Partitions implements pipeline.Publisher.
func (p *kafkaPublisher) Partitions() int { return len(p.queues) }

// Publish implements pipeline.Publisher.
func (p *kafkaPublisher) Publish(ctx context.Context, records []pipeline.Record, done func(error)) error {
	return p.publish(ctx, records, &kafkaCall{done: done})
}

func (p *kafkaPublisher) publish(ctx context.Context, records []pipeline.Record, call *kafkaCall) error {
	call.left.Store(int64(len(records)))
	call.first.Store(-1)
	var size int64
	for _, r := range records {
		if r.Partition < 0 || r.Partition >= len(p.queues) {
			return fmt.Errorf("publish to partition %d: topic %s is used with %d", r.Partition, p.topic, len(p.queues))
		}
		size += queued{data: r.Data}.size()
	}
	if err := p.room(ctx, size); err != nil {
		return err
	}
	for _, r := range records {
		q := &p.queues[r.Partition]
		q.records = append(q.records, queued{r.Data, call})
		q.grown.tell()
	}
	p.mu.Unlock()
	if len(records) == 0 {
		call.done(nil)
	}
	return nil
}

// room waits until there is room, reserves it and returns with p.mu held; after
// an error it is not held. A call larger than the buffer has it to itself.
func (p *kafkaPublisher) room(ctx context.Context, size int64) error {
	p.mu.Lock()
	for {
		err := ctx.Err()
		if err == nil {
			err = p.closed
		}
		if err != nil {
			p.mu.Unlock()
			return err
		}
		if p.waiting == 0 || p.waiting+size <= publishBuffer {
			p.waiting += size
			return nil
		}
		moved := p.moved.wait()
		p.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
		}
		p.mu.Lock()
	}
}

// send is a partition's only sender.
func (p *kafkaPublisher) send(partition int) {
	for {
		batch := p.next(partition)
		if len(batch) == 0 {
			return
		}
		p.produce(partition, batch)
	}
}

// next waits for records and takes those of one request; none after the close.
func (p *kafkaPublisher) next(partition int) []queued {
	q := &p.queues[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(q.records) == 0 {
		if p.closed != nil {
			return nil
		}
		grown, moved := q.grown.wait(), p.moved.wait()
		p.mu.Unlock()
		select {
		case <-grown:
		case <-moved:
		}
		p.mu.Lock()
	}
	n, size := 0, 0
	for n < len(q.records) && (n == 0 || size+len(q.records[n].data) <= p.k.batch) {
		size += len(q.records[n].data)
		n++
	}
	batch := q.records[:n:n]
	q.records = q.records[n:]
	if len(q.records) == 0 {
		q.records = nil // the next one does not grow an array of sent records
	}
	return batch
}

// produce sends a batch until it is durable. Only a record that the broker finds
// too large, and the close, make it give up.
func (p *kafkaPublisher) produce(partition int, batch []queued) {
	for attempt := 1; ; attempt++ {
		base, err := p.k.append(p.giveUp, p.topic, partition, records(batch))
		if err == nil {
			p.note(partition, base, len(batch))
			p.finish(batch, base, nil)
			return
		}
		if p.giveUp.Err() != nil {
			p.finish(batch, 0, fmt.Errorf("%w: %w", ErrClosed, err))
			return
		}
		if errors.Is(err, kafka.MessageSizeTooLarge) || errors.Is(err, kafka.RecordListTooLarge) {
			if half := len(batch) / 2; half > 0 {
				p.produce(partition, batch[:half])
				p.produce(partition, batch[half:])
				return
			}
			p.finish(batch, 0, fmt.Errorf("a record of %d bytes is larger than topic %s takes; raise its max.message.bytes (and the brokers' replica.fetch.max.bytes): %w",
				len(batch[0].data), p.topic, err))
			return
		}
		wait := backoff(attempt)
		reportRetry(p.k.config.Hooks, p.k.logger, fmt.Sprintf("publish to %s/%d", p.topic, partition), attempt, p.k.explain(err), wait)
		pause(p.giveUp, wait)
	}
}

// note looks whether acknowledged records stand behind those before; see reached.
func (p *kafkaPublisher) note(partition int, base int64, n int) {
	if p.topic != p.k.live {
		return
	}
	if lost := p.k.reached.acknowledged(p.topic, partition, base, n); lost != "" {
		p.k.logger.Error("records that were published are gone; everything is invalidated for them", "reason", lost)
	}
}

func records(batch []queued) []kafka.Record {
	records := make([]kafka.Record, len(batch))
	for i, q := range batch {
		records[i].Value = kafka.NewBytes(q.data)
	}
	return records
}

// finish answers for a batch, whose first record has the offset base.
func (p *kafkaPublisher) finish(batch []queued, base int64, err error) {
	var size int64
	for _, q := range batch {
		size += q.size()
	}
	p.mu.Lock()
	p.waiting -= size
	p.moved.tell()
	p.mu.Unlock()
	for i, q := range batch {
		q.call.finish(base+int64(i), err)
	}
}

func (p *kafkaPublisher) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = ErrClosed
	p.moved.tell()
	p.mu.Unlock()
	stop := context.AfterFunc(ctx, p.cancel)
	defer stop()
	p.senders.Wait()
	if p.giveUp.Err() != nil {
		return fmt.Errorf("close the publisher of %s: some records were not acknowledged: %w", p.topic, ctx.Err())
	}
	return nil
}

// produce sends records to a partition and returns when all in-sync replicas
// have them.
func (k *Kafka) produce(ctx context.Context, topic string, partition int, records []kafka.Record) error {
	_, err := k.append(ctx, topic, partition, records)
	return err
}

// append is produce; it returns the offset of the first record.
func (k *Kafka) append(ctx context.Context, topic string, partition int, records []kafka.Record) (base int64, err error) {
	res, err := k.producing.Produce(ctx, &kafka.ProduceRequest{
		Topic: topic, Partition: partition, RequiredAcks: kafka.RequireAll,
		Records: kafka.NewRecordReader(records...), Compression: k.compression,
	})
	if err != nil {
		return 0, err
	}
	return res.BaseOffset, res.Error
}
