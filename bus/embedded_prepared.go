package bus

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

const (
	preparedDir = "prepared" // in the log's folder
	// preparedTail bounds the records that wait for the disk, twice.
	preparedTail = 4 << 20
	// preparedSegment is the size of its files: the newest one stays.
	preparedSegment = 16 << 20
)

// embeddedPrepared keeps the rows of prepared XA transactions in segments of
// their own, like the log's.
type embeddedPrepared struct {
	e    *Embedded
	disk *disk
	tail *tail
	mu   sync.Mutex // orders Append
}

// openPrepared opens what is kept in the log's folder. A newest segment that
// cannot be read is put aside: its offsets are used again, and whoever wants the
// records that were there finds other ones.
func (e *Embedded) openPrepared() (err error) {
	dir := filepath.Join(e.config.Dir, preparedDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("open the log: make its folder: %w", err)
	}
	p := &embeddedPrepared{e: e}
	if p.disk, err = openDisk(dir, e.logger); err != nil {
		return fmt.Errorf("open the log in %s: %w", dir, err)
	}
	p.disk.bytes, p.disk.age = preparedSegment, 24*time.Hour
	_, end := p.disk.bounds()
	p.tail = newTail(end, preparedTail)
	e.prepared = p
	return nil
}

// Prepared returns the place for the rows of prepared XA transactions. One
// tailer may use it.
func (e *Embedded) Prepared() pipeline.Prepared { return e.prepared }

// write is the only goroutine that appends.
func (p *embeddedPrepared) write() {
	for {
		batch, base, ok := p.tail.unsynced(preparedTail)
		if !ok {
			return
		}
		if err := p.e.writeBatch(p.disk, base, batch); err != nil {
			p.tail.fail(fmt.Errorf("%w: %w", ErrClosed, err))
			return
		}
		p.tail.synced(len(batch))
	}
}

// Append implements pipeline.Prepared.
func (p *embeddedPrepared) Append(ctx context.Context, records [][]byte, done func(from, next int64, err error)) error {
	list := make([]pipeline.Record, len(records))
	for i, data := range records {
		list[i].Data = data
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	from := p.tail.next()
	return p.tail.add(ctx, list, func(err error) { done(from, from+int64(len(records)), err) })
}

// Read implements pipeline.Prepared.
func (p *embeddedPrepared) Read(ctx context.Context, from, next int64, fn func(pipeline.Message) error) error {
	for from < next {
		if err := ctx.Err(); err != nil {
			return err
		}
		messages, end, inMemory, _ := p.tail.read(from, fetchBytes)
		if !inMemory {
			var err error
			if messages, err = p.disk.read(from, fetchBytes); err != nil {
				return err
			}
		}
		if len(messages) == 0 {
			start, _ := p.disk.bounds()
			return &pipeline.LogGapError{From: min(from, end), Start: start}
		}
		for _, m := range messages {
			if m.Offset >= next {
				return nil
			}
			if err := fn(m); err != nil {
				return err
			}
			from = m.Offset + 1
		}
	}
	return nil
}

// Release implements pipeline.Prepared: files that hold nothing else are removed.
func (p *embeddedPrepared) Release(below int64) {
	if err := p.disk.dropBelow(below, 0, 0); err != nil {
		p.e.logger.Warn("rows of finished XA transactions could not be removed", "err", err)
	}
}
