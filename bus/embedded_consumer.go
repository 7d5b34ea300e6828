package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// fetchBytes is about how much one Read returns at most.
const fetchBytes = 1 << 20

// Consumer returns a consumer by the name under which its cursors are stored,
// for example "invalidator". Only one of a name can run at a time.
func (e *Embedded) Consumer(name string) pipeline.Consumer { return &embeddedConsumer{e, name} }

type embeddedConsumer struct {
	e    *Embedded
	name string
}

// Run implements pipeline.Consumer. own that returns nil or ErrFenced while it
// still owns the partition is called again.
func (c *embeddedConsumer) Run(ctx context.Context, own func(context.Context, pipeline.Partition) error) error {
	e := c.e
	e.mu.Lock()
	taken := e.running[c.name]
	e.running[c.name] = true
	e.mu.Unlock()
	if taken {
		return fmt.Errorf("consumer %q of the log in %s is already running", c.name, e.config.Dir)
	}
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.running, c.name)
	}()
	for attempt := 1; ctx.Err() == nil; attempt++ {
		p, err := c.partition()
		if err != nil {
			return err
		}
		err = own(ctx, p)
		p.fence()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, pipeline.ErrFenced) {
			return err
		}
		pause(ctx, backoff(attempt))
	}
	return nil
}

func (c *embeddedConsumer) partition() (*embeddedPartition, error) {
	p := &embeddedPartition{e: c.e, consumer: c.name}
	start, end := c.e.disk.bounds()
	p.cursors = pipeline.Cursors{First: start, Second: start}
	stored, ok, err := get[storedCursors](c.e.state, cursorsBucket, c.name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("load the cursors of %q: %w", c.name, err)
	case !ok:
		p.gap = beginsAt(start)
	case stored.Incarnation != c.e.state.incarnation:
		p.gap = "the cursors belong to another incarnation of the log: it lost records, or was made anew"
	case stored.First > end || stored.Second > end:
		p.gap = fmt.Sprintf("the cursors (%d, %d) are beyond the log's end %d", stored.First, stored.Second, end)
	default:
		p.cursors = pipeline.Cursors{First: stored.First, Second: stored.Second, Marks: stored.Marks}
	}
	return p, nil
}

// beginsAt returns the gap of a consumer without cursors, "" where the log still
// has its first record: a new consumer, or one whose cursors were forgotten, has
// missed what was dropped, the first start's invalidation included.
func beginsAt(start int64) string {
	if start == 0 {
		return ""
	}
	return fmt.Sprintf("no cursors are stored, and the log begins at offset %d: what came before was dropped unread", start)
}

// embeddedPartition is the log's only partition during one call of own.
type embeddedPartition struct {
	e        *Embedded
	consumer string
	cursors  pipeline.Cursors
	gap      string

	mu     sync.Mutex
	fenced bool
}

// Name implements pipeline.Partition.
func (p *embeddedPartition) Name() string { return "embedded/0" }

// Cursors implements pipeline.Partition.
func (p *embeddedPartition) Cursors() (pipeline.Cursors, string) { return p.cursors, p.gap }

// Read implements pipeline.Partition.
func (p *embeddedPartition) Read(ctx context.Context, from int64) (pipeline.Fetch, error) {
	for {
		messages, end, inMemory, more := p.e.tail.read(from, fetchBytes)
		if !inMemory {
			var err error
			if messages, err = p.e.disk.read(from, fetchBytes); err != nil {
				return pipeline.Fetch{}, err
			}
		}
		if n := len(messages); n > 0 {
			return pipeline.Fetch{Messages: messages, Next: messages[n-1].Offset + 1, End: end}, nil
		}
		if from > end {
			start, _ := p.e.disk.bounds()
			return pipeline.Fetch{}, &pipeline.LogGapError{From: from, Start: start}
		}
		select {
		case <-more:
		case <-ctx.Done():
			return pipeline.Fetch{Next: from, End: end}, ctx.Err()
		}
	}
}

// Store implements pipeline.Partition.
func (p *embeddedPartition) Store(ctx context.Context, c pipeline.Cursors) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fenced {
		return pipeline.ErrFenced
	}
	if len(c.Marks) > pipeline.MaxMarks {
		return fmt.Errorf("store the cursors of %q: %d bytes of marks are more than %d", p.consumer, len(c.Marks), pipeline.MaxMarks)
	}
	end := p.e.tail.syncedEnd()
	err := put(p.e.state, cursorsBucket, p.consumer, storedCursors{
		Incarnation: p.e.state.incarnation, End: end,
		First: min(c.First, end), Second: min(c.Second, end), Marks: c.Marks, At: time.Now(),
	})
	if err != nil {
		return fmt.Errorf("store the cursors of %q: %w", p.consumer, err)
	}
	return nil
}

func (p *embeddedPartition) fence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fenced = true
}
