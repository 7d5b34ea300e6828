package pipelinetest

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Prepared is a pipeline.Prepared in memory. It outlives the tailers that use
// it, and works in a synctest bubble. The fields are set before first use.
type Prepared struct {
	// Fail, if not nil, is called before each operation; its error is the
	// operation's. The operations: append (Append returns the error), keep (done
	// gets it), and read, before each record.
	Fail func(op string) error
	// Ack, if not nil, decides when an Append is acknowledged, as Log.Ack does.
	Ack func(ack func())
	// Gap makes Append leave room for records of others, as a shared log would.
	Gap int64

	mu      sync.Mutex
	records map[int64][]byte
	end     int64
	low     int64
}

var _ pipeline.Prepared = (*Prepared)(nil)

func (p *Prepared) fail(op string) error {
	if p.Fail == nil {
		return nil
	}
	return p.Fail(op)
}

// Append implements pipeline.Prepared.
func (p *Prepared) Append(ctx context.Context, records [][]byte, done func(from, next int64, err error)) error {
	if err := errors.Join(ctx.Err(), p.fail("append")); err != nil {
		return err
	}
	err := p.fail("keep")
	p.mu.Lock()
	if p.records == nil {
		p.records = map[int64][]byte{}
	}
	from := p.end
	for _, r := range records {
		p.records[p.end] = bytes.Clone(r)
		p.end++
	}
	next := p.end
	for range p.Gap {
		p.records[p.end] = []byte("of another source")
		p.end++
	}
	p.mu.Unlock()
	if p.Ack == nil {
		done(from, next, err)
	} else {
		p.Ack(func() { done(from, next, err) })
	}
	return nil
}

// Read implements pipeline.Prepared.
func (p *Prepared) Read(ctx context.Context, from, next int64, fn func(pipeline.Message) error) error {
	for at := from; at < next; at++ {
		if err := errors.Join(ctx.Err(), p.fail("read")); err != nil {
			return err
		}
		p.mu.Lock()
		data, ok := p.records[at]
		start := p.low
		p.mu.Unlock()
		if !ok {
			return &pipeline.LogGapError{From: at, Start: start}
		}
		if err := fn(pipeline.Message{Offset: at, Data: data}); err != nil {
			return err
		}
	}
	return nil
}

// Release implements pipeline.Prepared: the records below are gone at once.
func (p *Prepared) Release(below int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ; p.low < below; p.low++ {
		delete(p.records, p.low)
	}
}

// Len returns how many records there are.
func (p *Prepared) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.records)
}
