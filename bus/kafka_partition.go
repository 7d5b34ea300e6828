package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// kafkaPartition is a partition as one generation of a group owns it.
type kafkaPartition struct {
	k          *Kafka
	group      string
	generation *kafka.Generation
	id         int
	cursors    pipeline.Cursors
	gap        string

	mu     sync.Mutex
	end    int64 // the highest high watermark seen
	fenced bool  // own has returned
}

// commitMetadata stands beside the group's offset, which is the second pass's
// cursor. Where it is missing, somebody has set the offset by hand.
type commitMetadata struct {
	First int64 `json:"first"`
	// End is the highest high watermark that was seen: a log that ends before it
	// has lost its tail, and what is appended now takes the lost records' offsets.
	End int64 `json:"end"`
	// Marks stand as they are, not quoted: the broker bounds the whole, by 4,096
	// bytes unless offset.metadata.max.bytes says otherwise.
	Marks json.RawMessage `json:"marks,omitempty"`
}

// committed is what a group has stored for a partition.
type committed struct {
	commitMetadata
	second int64 // the offset; below 0 where nothing is stored
}

func committedOf(p kafka.OffsetFetchPartition) committed {
	c := committed{commitMetadata{First: p.CommittedOffset}, p.CommittedOffset}
	if err := json.Unmarshal([]byte(p.Metadata), &c.commitMetadata); err != nil {
		c.commitMetadata = commitMetadata{First: p.CommittedOffset}
	}
	return c
}

// reached is an offset that the log had reached.
func (c *committed) reached() int64 { return max(c.First, c.End, c.second) }

// metadata is written by hand: encoding/json would write the marks in its own
// way, which may be longer.
func metadata(c pipeline.Cursors, end int64) (string, error) {
	if len(c.Marks) > pipeline.MaxMarks || c.Marks != "" && !json.Valid([]byte(c.Marks)) {
		return "", fmt.Errorf("%d bytes of marks are not JSON, or more than %d", len(c.Marks), pipeline.MaxMarks)
	}
	text := fmt.Sprintf(`{"first":%d,"end":%d`, c.First, end)
	if c.Marks != "" {
		text += `,"marks":` + c.Marks
	}
	return text + "}", nil
}

// Name implements pipeline.Partition.
func (p *kafkaPartition) Name() string { return fmt.Sprintf("%s/%d", p.k.config.Topic, p.id) }

// Cursors implements pipeline.Partition.
func (p *kafkaPartition) Cursors() (pipeline.Cursors, string) { return p.cursors, p.gap }

// load reads the stored cursors; it tries until it can, or ctx ends.
func (p *kafkaPartition) load(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		err := p.loadOnce(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		wait := backoff(attempt)
		reportRetry(p.k.config.Hooks, p.k.logger, "load the cursors of "+p.Name(), attempt, p.k.explain(err), wait)
		pause(ctx, wait)
	}
}

func (p *kafkaPartition) loadOnce(ctx context.Context) error {
	topic := p.k.config.Topic
	res, err := p.k.reading.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: p.group, Topics: map[string][]int{topic: {p.id}}})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return err
	}
	if len(res.Topics[topic]) != 1 {
		return errors.New("fetch offsets: no answer for the partition")
	}
	stored := res.Topics[topic][0]
	if stored.Error != nil {
		return stored.Error
	}
	c := committedOf(stored)
	start, end, err := p.k.boundsFrom(ctx, topic, p.id, c.reached())
	if err != nil {
		return err
	}
	p.end = end
	p.cursors = pipeline.Cursors{First: start, Second: start}
	switch {
	case c.second < 0:
		p.gap = beginsAt(start)
	case c.reached() > end:
		p.gap = fmt.Sprintf("the log ends at offset %d, but had reached %d: it lost its tail, or the topic was made anew", end, c.reached())
	default:
		p.cursors = pipeline.Cursors{First: max(c.First, c.second), Second: c.second, Marks: string(c.Marks)}
	}
	return nil
}

// Read implements pipeline.Partition. It tries once, and returns after a moment
// without records where there are none.
func (p *kafkaPartition) Read(ctx context.Context, from int64) (pipeline.Fetch, error) {
	for {
		f, err := p.k.fetch(ctx, p.k.config.Topic, p.id, from)
		if ctx.Err() != nil {
			return pipeline.Fetch{Next: from, End: from}, ctx.Err()
		}
		if errors.Is(err, kafka.OffsetOutOfRange) {
			start, end, err := p.k.boundsFrom(ctx, p.k.config.Topic, p.id, from)
			if err != nil {
				return pipeline.Fetch{}, fmt.Errorf("read %s at %d: %w", p.Name(), from, p.k.explain(err))
			}
			if from < start || from > end {
				return pipeline.Fetch{}, &pipeline.LogGapError{From: from, Start: start}
			}
			continue // it was a former leader that had not got that far
		}
		if err != nil {
			return pipeline.Fetch{}, fmt.Errorf("read %s at %d: %w", p.Name(), from, p.k.explain(err))
		}
		if f.next == from {
			if f.jump > 0 { // in a topic that is neither compacted nor truncated there are no holes
				return pipeline.Fetch{}, &pipeline.LogGapError{From: from, Start: f.jump}
			}
			continue
		}
		p.mu.Lock()
		p.end = max(p.end, f.end)
		p.mu.Unlock()
		messages := make([]pipeline.Message, len(f.records))
		for i, r := range f.records {
			messages[i] = pipeline.Message{Offset: r.offset, Data: r.value}
		}
		return pipeline.Fetch{Messages: messages, Next: f.next, End: max(f.end, f.next)}, nil
	}
}

// Store implements pipeline.Partition. Kafka refuses a member of an ended
// generation, so a former owner cannot move the cursors.
func (p *kafkaPartition) Store(ctx context.Context, c pipeline.Cursors) error {
	p.mu.Lock()
	fenced, end := p.fenced, max(p.end, c.First)
	p.mu.Unlock()
	if fenced {
		return pipeline.ErrFenced
	}
	metadata, err := metadata(c, end)
	if err != nil {
		return fmt.Errorf("store cursors of %s: %w", p.Name(), err)
	}
	topic := p.k.config.Topic
	res, err := p.k.reading.OffsetCommit(ctx, &kafka.OffsetCommitRequest{
		GroupID: p.group, GenerationID: int(p.generation.ID), MemberID: p.generation.MemberID,
		Topics: map[string][]kafka.OffsetCommit{topic: {{Partition: p.id, Offset: c.Second, Metadata: metadata}}},
	})
	if err == nil {
		if len(res.Topics[topic]) != 1 {
			err = errors.New("no answer for the partition")
		} else {
			err = res.Topics[topic][0].Error
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kafka.IllegalGeneration), errors.Is(err, kafka.UnknownMemberId), errors.Is(err, kafka.RebalanceInProgress):
		return fmt.Errorf("store cursors of %s: %w: %w", p.Name(), pipeline.ErrFenced, err)
	}
	return fmt.Errorf("store cursors of %s: %w", p.Name(), p.k.explain(err))
}

func (p *kafkaPartition) fence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fenced = true
}

// late says so when the owner has not returned some time after its ownership
// ended: the member cannot join the next generation before.
func (p *kafkaPartition) late(after time.Duration) {
	time.AfterFunc(after, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.fenced {
			p.k.logger.Error("the owner of a partition does not return; the consumer group waits for it", "partition", p.Name(), "after", after)
		}
	})
}
