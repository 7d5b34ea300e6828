package pipelinetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// group is the log's consumer group. A generation ends when a member joins,
// leaves, or Rebalance is called. The next begins once every member that is
// still there has given its partitions up, as with Kafka; guarded by Log.mu.
type group struct {
	number  int
	members []*logConsumer
	waiting map[*logConsumer]bool // gave everything up, and is ready for the next
	ended   chan struct{}         // closed when the current generation ends; nil between two
	started chan struct{}         // closed when the next begins
}

// Rebalance ends the current generation; its members join the next.
func (l *Log) Rebalance() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.group.end()
}

func (g *group) end() {
	if g.ended != nil {
		close(g.ended)
		g.ended = nil
		g.number++ // fences Store at once
	}
}

// settle begins a generation if all members are ready for it.
func (g *group) settle() {
	if g.ended != nil || len(g.members) == 0 || len(g.waiting) < len(g.members) {
		return
	}
	g.waiting = nil
	g.ended = make(chan struct{})
	close(g.started)
	g.started = nil
}

// ready says that c owns nothing, and returns a channel that is closed when the
// next generation begins.
func (g *group) ready(c *logConsumer) <-chan struct{} {
	if g.waiting == nil {
		g.waiting = map[*logConsumer]bool{}
	}
	g.waiting[c] = true
	if g.started == nil {
		g.started = make(chan struct{})
	}
	started := g.started
	g.settle()
	return started
}

func (g *group) leave(c *logConsumer) {
	g.members = slices.DeleteFunc(g.members, func(m *logConsumer) bool { return m == c })
	delete(g.waiting, c)
	g.end()
	g.settle()
}

// Consumer returns a new member of the log's group. It joins with Run.
func (l *Log) Consumer() pipeline.Consumer { return &logConsumer{l: l} }

type logConsumer struct{ l *Log }

func (c *logConsumer) Run(ctx context.Context, own func(context.Context, pipeline.Partition) error) error {
	l := c.l
	l.mu.Lock()
	l.group.members = append(l.group.members, c)
	l.group.end()
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.group.leave(c)
	}()
	for {
		l.mu.Lock()
		started := l.group.ready(c)
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-started:
		}
		if err := c.generation(ctx, own); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// generation runs own for the partitions of one generation until it ends.
func (c *logConsumer) generation(ctx context.Context, own func(context.Context, pipeline.Partition) error) error {
	l := c.l
	l.mu.Lock()
	me := slices.Index(l.group.members, c)
	number, ended, n := l.group.number, l.group.ended, len(l.group.members)
	var mine []*logPartition
	for i, p := range l.parts {
		if ended != nil && i%n == me {
			mine = append(mine, p.owned(l, i, number))
		}
	}
	l.mu.Unlock()
	if ended == nil { // over before it was seen
		return nil
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(mine)+1)
	var wg sync.WaitGroup
	for _, p := range mine {
		wg.Go(func() {
			err := own(ctx, p)
			if ctx.Err() != nil {
				return
			}
			if err == nil || errors.Is(err, pipeline.ErrFenced) {
				time.Sleep(100 * time.Millisecond) // gave up early: joins again, but not in a spin
				err = nil
			}
			errs <- err
		})
	}
	defer wg.Wait()
	defer cancel()
	select {
	case <-ctx.Done():
		return nil
	case <-ended:
		return nil
	case err := <-errs:
		l.mu.Lock()
		defer l.mu.Unlock()
		if err == nil && l.group.number == number {
			l.group.end()
		}
		return err
	}
}

func (p *logPart) owned(l *Log, i, generation int) *logPartition {
	o := &logPartition{l: l, part: p, index: i, generation: generation, gap: p.gap}
	if p.cursors != nil {
		o.cursors = *p.cursors
	} else {
		o.cursors = pipeline.Cursors{First: p.start, Second: p.start}
		if p.gap == "" && p.start > 0 {
			o.gap = "records were dropped unread"
		}
	}
	return o
}

// logPartition is a partition as one generation owns it.
type logPartition struct {
	l          *Log
	part       *logPart
	index      int
	generation int
	cursors    pipeline.Cursors
	gap        string
}

// fetchLimit is the number of records that one Read returns at most.
const fetchLimit = 100

func (p *logPartition) Name() string { return fmt.Sprintf("test/%d", p.index) }

func (p *logPartition) Cursors() (pipeline.Cursors, string) { return p.cursors, p.gap }

func (p *logPartition) Read(ctx context.Context, from int64) (pipeline.Fetch, error) {
	if err := p.l.fail("read"); err != nil {
		return pipeline.Fetch{}, err
	}
	for {
		p.l.mu.Lock()
		start, end, grown := p.part.start, p.part.end(), p.part.grown
		messages := []pipeline.Message(nil)
		if from >= start {
			messages = p.part.slice(from, fetchLimit)
		}
		p.l.mu.Unlock()
		if from < start || from > end {
			return pipeline.Fetch{}, &pipeline.LogGapError{From: from, Start: start}
		}
		if len(messages) > 0 {
			return pipeline.Fetch{Messages: messages, Next: from + int64(len(messages)), End: end}, nil
		}
		select {
		case <-ctx.Done():
			return pipeline.Fetch{Next: from, End: end}, ctx.Err()
		case <-grown:
		}
	}
}

func (p *logPartition) Store(ctx context.Context, c pipeline.Cursors) error {
	if err := errors.Join(ctx.Err(), p.l.fail("store")); err != nil {
		return err
	}
	p.l.mu.Lock()
	if p.l.group.number != p.generation {
		p.l.mu.Unlock()
		return pipeline.ErrFenced
	}
	p.part.cursors, p.part.gap = &c, ""
	p.l.mu.Unlock()
	return p.l.fail("stored")
}
