package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Positions returns the checkpoint of a source, kept in the compacted topic
// beside the events. One tailer per source writes it, and stores with it how far
// the log's Publisher had got: where the topic ends before that at Load, it was
// made anew or lost its tail, and the checkpoint is Pending for that reason.
//
// It has a method more, Lost() <-chan struct{}: the channel is closed when such a
// loss shows after Load, by a record that was appended where there had been one.
// From then on stored checkpoints are Pending, until the next Load; so the tailer
// has to begin again from there.
func (k *Kafka) Positions(source string) pipeline.Positions {
	return &kafkaPositions{k: k, source: source}
}

type kafkaPositions struct {
	k      *Kafka
	source string

	mu     sync.Mutex
	number int64 // of the newest stored checkpoint; -1 while it is not known
	loaded bool
}

// storedCheckpoint is a record's value. A request that timed out may be carried
// out late, behind a newer checkpoint's: the highest number counts.
type storedCheckpoint struct {
	pipeline.Checkpoint
	Number int64 `json:"number"`
	// Ends is how far the live topic had got, by partition; see reached. It is nil
	// in what an earlier version stored.
	Ends []int64 `json:"ends,omitempty"`
}

// Lost is described at Positions.
func (p *kafkaPositions) Lost() <-chan struct{} {
	r := p.k.reached
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tell
}

// Load implements pipeline.Positions. It reads the topic to its end. What was
// lost until now is the caller's affair from here on: a checkpoint that it stores
// next is Pending too, or stands behind the invalidation.
func (p *kafkaPositions) Load(ctx context.Context) (pipeline.Checkpoint, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	stored, err := p.load(ctx)
	if err != nil {
		return pipeline.Checkpoint{}, err
	}
	had := stored.Ends
	if stored.Position == "" {
		had = []int64{} // nobody has published
	}
	ends, lost, err := p.k.lostSince(ctx, had)
	if err != nil {
		return pipeline.Checkpoint{}, fmt.Errorf("load the position of %q: compare it with the log: %w", p.source, p.k.explain(err))
	}
	lost = cmp.Or(lost, p.k.reached.begin(ends))
	if stored.Position != "" {
		stored.Pending = cmp.Or(stored.Pending, lost)
	}
	return stored.Checkpoint, nil
}

func (p *kafkaPositions) load(ctx context.Context) (storedCheckpoint, error) {
	var newest storedCheckpoint
	err := p.k.scan(ctx, p.k.positionsTopic(), func(r fetchedRecord) error {
		if string(r.key) != p.source || r.value == nil {
			return nil
		}
		var stored storedCheckpoint
		if err := json.Unmarshal(r.value, &stored); err != nil {
			return fmt.Errorf("record %d is not a checkpoint: %w", r.offset, err)
		}
		if stored.Number >= newest.Number {
			newest = stored
		}
		return nil
	})
	if err != nil {
		return newest, fmt.Errorf("load the position of %q from %s: %w", p.source, p.k.positionsTopic(), p.k.explain(err))
	}
	p.number, p.loaded = newest.Number, true
	return newest, nil
}

// Save implements pipeline.Positions. It tries once.
func (p *kafkaPositions) Save(ctx context.Context, c pipeline.Checkpoint) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.loaded {
		stored, err := p.load(ctx)
		if err != nil {
			return err
		}
		p.k.reached.raise(stored.Ends)
	}
	p.number++ // also when it fails: it may have been stored
	ends, lost := p.k.reached.now()
	c.Pending = cmp.Or(c.Pending, lost)
	value, err := json.Marshal(storedCheckpoint{Checkpoint: c, Number: p.number, Ends: ends})
	if err != nil {
		return err
	}
	err = p.k.produce(ctx, p.k.positionsTopic(), 0, []kafka.Record{{Key: kafka.NewBytes([]byte(p.source)), Value: kafka.NewBytes(value)}})
	if err != nil {
		return fmt.Errorf("store the position of %q in %s: %w", p.source, p.k.positionsTopic(), p.k.explain(err))
	}
	return nil
}

// scan calls fn for every record that partition 0 of a topic holds now. Holes
// that compaction left are passed over.
func (k *Kafka) scan(ctx context.Context, topic string, fn func(fetchedRecord) error) error {
	from, end, err := k.bounds(ctx, topic, 0)
	if err != nil {
		return err
	}
	for from < end {
		f, err := k.fetch(ctx, topic, 0, from)
		if errors.Is(err, kafka.OffsetOutOfRange) { // its front was removed meanwhile
			start, newEnd, boundsErr := k.bounds(ctx, topic, 0)
			if boundsErr != nil || start <= from {
				return errors.Join(err, boundsErr)
			}
			from, end = start, newEnd
			continue
		}
		if err != nil {
			return err
		}
		for _, r := range f.records {
			if err := fn(r); err != nil {
				return err
			}
		}
		switch {
		case f.jump > 0:
			from = f.jump
		case f.next > from:
			from = f.next
		case f.empty:
			return fmt.Errorf("%s holds records up to %d, but none came at %d", topic, end, from)
		default: // compaction removed what is left of this batch
			from++
		}
	}
	return nil
}

// DeadLetters returns the topic of dead letters: one JSON object per record.
func (k *Kafka) DeadLetters() pipeline.DeadLetters { return kafkaDead{k} }

type kafkaDead struct{ k *Kafka }

// Add implements pipeline.DeadLetters. It tries once. A letter that is too large
// for the topic is stored without its data, which the log still has.
func (d kafkaDead) Add(ctx context.Context, letter pipeline.DeadLetter) error {
	err := d.add(ctx, letter)
	if errors.Is(err, kafka.MessageSizeTooLarge) || errors.Is(err, kafka.RecordListTooLarge) {
		letter.Reason += fmt.Sprintf(" (its %d bytes are too many for %s; they are at that offset of the log)", len(letter.Data), d.k.deadTopic())
		letter.Data = nil
		err = d.add(ctx, letter)
	}
	if err != nil {
		return fmt.Errorf("store a dead letter in %s: %w", d.k.deadTopic(), d.k.explain(err))
	}
	return nil
}

func (d kafkaDead) add(ctx context.Context, letter pipeline.DeadLetter) error {
	value, err := json.Marshal(letter)
	if err != nil {
		return err
	}
	return d.k.produce(ctx, d.k.deadTopic(), 0, []kafka.Record{{Value: kafka.NewBytes(value)}})
}
