// Package pipelinetest holds fakes of the engine's seams and the suites that
// every implementation of a seam, fake or real, must pass. No command links it.
package pipelinetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Log is a log in memory with one consumer group. It outlives its Publishers
// and Consumers, so a test restarts a process by making new ones. It does no
// I/O and waits on channels only, so it works in a synctest bubble. All methods
// are safe for concurrent use; the fields are set before first use.
type Log struct {
	// Fail, if not nil, is called before each operation; its error is the
	// operation's. It may block. The operations:
	//
	//	publish     Publish returns the error, nothing is accepted
	//	append      done gets the error, nothing is in the log
	//	ack         done gets the error, though the records are in the log
	//	read store load save dead
	//	saved       Save returns the error, though the checkpoint is stored
	//	stored      Store returns the error, though the cursors are stored
	Fail func(op string) error
	// Ack, if not nil, decides when a Publish is acknowledged: it gets the call
	// of done. nil acknowledges before Publish returns.
	Ack func(ack func())

	mu         sync.Mutex
	parts      []*logPart
	checkpoint pipeline.Checkpoint
	dead       []pipeline.DeadLetter
	group      group
}

// logPart is one partition. records[0] has the offset start.
type logPart struct {
	start   int64
	records [][]byte
	grown   chan struct{} // closed and replaced when records are added or dropped
	cursors *pipeline.Cursors
	gap     string
}

func (p *logPart) end() int64 { return p.start + int64(len(p.records)) }

func (p *logPart) changed() {
	close(p.grown)
	p.grown = make(chan struct{})
}

// NewLog returns an empty log.
func NewLog(partitions int) *Log {
	l := &Log{}
	for range partitions {
		l.parts = append(l.parts, &logPart{grown: make(chan struct{})})
	}
	return l
}

func (l *Log) fail(op string) error {
	if l.Fail == nil {
		return nil
	}
	return l.Fail(op)
}

// Append adds data to a partition, past all fault hooks, and returns its offset.
func (l *Log) Append(partition int, data []byte) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.parts[partition]
	p.records = append(p.records, bytes.Clone(data))
	p.changed()
	return p.end() - 1
}

// Drop removes the records below an offset, as retention does.
func (l *Log) Drop(partition int, below int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.parts[partition]
	if n := below - p.start; n > 0 {
		p.records = p.records[min(n, int64(len(p.records))):]
		p.start = below
		p.changed()
	}
}

// Records returns what a partition holds.
func (l *Log) Records(partition int) []pipeline.Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.parts[partition]
	return p.slice(p.start, len(p.records))
}

func (p *logPart) slice(from int64, limit int) []pipeline.Message {
	var m []pipeline.Message
	for i := from; i < min(p.end(), from+int64(limit)); i++ {
		m = append(m, pipeline.Message{Offset: i, Data: p.records[i-p.start]})
	}
	return m
}

// Cursors returns the stored cursors of a partition; ok is false if there are none.
func (l *Log) Cursors(partition int) (c pipeline.Cursors, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.parts[partition]; p.cursors != nil {
		return *p.cursors, true
	}
	return pipeline.Cursors{}, false
}

// SetGap makes the next owners of a partition find a gap, until they store cursors.
func (l *Log) SetGap(partition int, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parts[partition].gap = reason
	l.parts[partition].cursors = nil
}

// Dead returns the dead letters.
func (l *Log) Dead() []pipeline.DeadLetter {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.dead)
}

// Publisher returns a publisher to the log.
func (l *Log) Publisher() pipeline.Publisher { return logPublisher{l} }

// Positions returns the log's only checkpoint.
func (l *Log) Positions() pipeline.Positions { return logPositions{l} }

// DeadLetters returns the log's dead letters.
func (l *Log) DeadLetters() pipeline.DeadLetters { return logDead{l} }

type logPublisher struct{ l *Log }

func (p logPublisher) Partitions() int { return len(p.l.parts) }

func (p logPublisher) Publish(ctx context.Context, records []pipeline.Record, done func(error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, r := range records {
		if r.Partition < 0 || r.Partition >= len(p.l.parts) {
			return fmt.Errorf("publish to partition %d of %d", r.Partition, len(p.l.parts))
		}
	}
	if err := p.l.fail("publish"); err != nil {
		return err
	}
	err := p.l.fail("append")
	if err == nil {
		for _, r := range records {
			p.l.Append(r.Partition, r.Data)
		}
		err = p.l.fail("ack")
	}
	if p.l.Ack == nil {
		done(err)
	} else {
		p.l.Ack(func() { done(err) })
	}
	return nil
}

type logPositions struct{ l *Log }

func (p logPositions) Load(ctx context.Context) (pipeline.Checkpoint, error) {
	if err := errors.Join(ctx.Err(), p.l.fail("load")); err != nil {
		return pipeline.Checkpoint{}, err
	}
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	return p.l.checkpoint, nil
}

func (p logPositions) Save(ctx context.Context, c pipeline.Checkpoint) error {
	if err := errors.Join(ctx.Err(), p.l.fail("save")); err != nil {
		return err
	}
	p.l.mu.Lock()
	p.l.checkpoint = c
	p.l.mu.Unlock()
	return p.l.fail("saved")
}

type logDead struct{ l *Log }

func (d logDead) Add(ctx context.Context, letter pipeline.DeadLetter) error {
	if err := errors.Join(ctx.Err(), d.l.fail("dead")); err != nil {
		return err
	}
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	letter.Data = bytes.Clone(letter.Data)
	d.l.dead = append(d.l.dead, letter)
	return nil
}
