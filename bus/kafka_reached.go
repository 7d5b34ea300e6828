package bus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// reached is how far the live topic is known to have got. A partition never ends
// below that: retention moves its beginning, and a new one adds to the topic.
// Where one does, records that were acknowledged are gone, and with the topic
// Kafka forgets the groups' cursors: only the tailer can tell that from a first start.
type reached struct {
	mu   sync.Mutex
	ends []int64       // by partition: behind the last record acknowledged, or seen at [kafkaPositions.Load]
	lost string        // why records are gone that were there at Load; "" if none are
	tell chan struct{} // closed when lost is set
}

func newReached(partitions int) *reached {
	return &reached{ends: make([]int64, partitions), tell: make(chan struct{})}
}

// acknowledged notes n records that were acknowledged at an offset. It returns
// why others are gone, when it notices: an append where there was a record before.
func (r *reached) acknowledged(topic string, partition int, base int64, n int) (lost string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.ends) <= partition {
		r.ends = append(r.ends, 0)
	}
	if had := r.ends[partition]; base < had && r.lost == "" {
		lost = fmt.Sprintf("topic %s was made anew or lost its tail: partition %d took a record at offset %d, but had reached %d", topic, partition, base, had)
		r.lost = lost
		close(r.tell)
	}
	r.ends[partition] = base + int64(n)
	return lost
}

// begin starts over from what the topic holds now. It returns why records were
// lost until then, where that was noticed.
func (r *reached) begin(ends []int64) (lost string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if lost = r.lost; lost != "" {
		r.lost, r.tell = "", make(chan struct{})
	}
	r.ends = slices.Clone(ends)
	return lost
}

// raise notes what was stored as reached.
func (r *reached) raise(ends []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, end := range ends {
		if i == len(r.ends) {
			r.ends = append(r.ends, 0)
		}
		r.ends[i] = max(r.ends[i], end)
	}
}

func (r *reached) now() (ends []int64, lost string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ends), r.lost
}

// lostOf returns why a topic that ends there has lost some of what it had
// reached; "" where it has not. Of a nil had nothing is known, but that somebody
// has published.
func lostOf(topic string, had, ends []int64) string {
	anew := fmt.Sprintf("topic %s was made anew or lost its tail: ", topic)
	for i, at := range had {
		switch {
		case i >= len(ends) && at > 0:
			return anew + fmt.Sprintf("it has no partition %d, which had reached offset %d", i, at)
		case i < len(ends) && ends[i] < at:
			return anew + fmt.Sprintf("partition %d ends at offset %d, but had reached %d", i, ends[i], at)
		}
	}
	if had == nil && slices.Max(ends) == 0 {
		return anew + "it is empty, but a position is stored"
	}
	return ""
}

// lostSince returns where the live topic's partitions end, and why they lack some
// of what they had reached. That counts only after it has stayed so; see settle.
func (k *Kafka) lostSince(ctx context.Context, had []int64) (ends []int64, lost string, err error) {
	for until := time.Now().Add(k.settle); ; pause(ctx, k.settle/5) {
		if ends, err = k.liveEnds(ctx); err != nil {
			return nil, "", err
		}
		if lost = lostOf(k.live, had, ends); lost == "" || time.Now().After(until) {
			return ends, lost, nil
		}
	}
}

// liveEnds needs the right to describe the topic, not to read it.
func (k *Kafka) liveEnds(ctx context.Context) ([]int64, error) {
	n, err := k.partitions(ctx, k.live)
	if err != nil {
		return nil, fmt.Errorf("look for topic %s: %w", k.live, err)
	}
	if n == 0 {
		return nil, fmt.Errorf("topic %s does not exist; start the tailer again, which creates it", k.live)
	}
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i
	}
	found, err := k.offsets(ctx, k.live, ids, kafka.LastOffset)
	if err != nil {
		return nil, err
	}
	ends := make([]int64, n)
	for i := range ends {
		ends[i] = found[i]
	}
	return ends, nil
}
