package bus

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// History returns what the log holds on disk now, without any cursors.
func (e *Embedded) History() pipeline.History { return embeddedHistory{e} }

type embeddedHistory struct{ e *Embedded }

// Bounds implements pipeline.History.
func (h embeddedHistory) Bounds(ctx context.Context) ([]pipeline.Bounds, error) {
	start, end := h.e.disk.bounds()
	return []pipeline.Bounds{{Start: start, End: end}}, ctx.Err()
}

// OffsetAt implements pipeline.History. Records have no time of their own: the
// answer is where the first file begins that was appended to at the time or
// later, so it is up to an hour, or 64 MiB, too low.
func (h embeddedHistory) OffsetAt(ctx context.Context, partition int, t time.Time) (int64, error) {
	if err := h.only(partition); err != nil {
		return 0, err
	}
	return h.e.disk.offsetAt(t), ctx.Err()
}

func (h embeddedHistory) only(partition int) error {
	if partition != 0 {
		return fmt.Errorf("read partition %d: an embedded log has partition 0 only: %w", partition, pipeline.ErrFatal)
	}
	return nil
}

// coarse is how much a file's time may be off: file systems keep it in steps, by
// a clock that is read now and then.
const coarse = 2 * time.Second

// offsetAt returns the base of the first segment that was written to at t or
// later; the end where none was.
func (d *disk) offsetAt(t time.Time) int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	end := int64(0)
	for _, s := range d.segments {
		if !s.written.Add(coarse).Before(t) {
			return s.base
		}
		end = s.end
	}
	return end
}

// Read implements pipeline.History.
func (h embeddedHistory) Read(ctx context.Context, partition int, from, until int64, fn func([]pipeline.Message) error) error {
	if err := h.only(partition); err != nil {
		return err
	}
	for from < until {
		if err := ctx.Err(); err != nil {
			return err
		}
		h.e.reads.note(from, time.Now())
		start, end := h.e.disk.bounds()
		if from < start || until > end {
			return fmt.Errorf("read the log in %s: %w", h.e.config.Dir, &pipeline.LogGapError{From: from, Start: start})
		}
		messages, err := h.e.disk.read(from, fetchBytes)
		if err != nil {
			return fmt.Errorf("read the log in %s: %w", h.e.config.Dir, err)
		}
		n := len(messages)
		for n > 0 && messages[n-1].Offset >= until {
			n--
		}
		if n == 0 { // cannot be: from is in the log
			return fmt.Errorf("read the log in %s: no record at %d", h.e.config.Dir, from)
		}
		if err := fn(messages[:n]); err != nil {
			return err
		}
		from = messages[n-1].Offset + 1
	}
	return nil
}

// readHold is for how long at least records are kept behind where a History has
// read: the plan of a replay reads all of them, and the replay, which is slowed
// down for the sake of live changes, reads them again.
const readHold = time.Hour

// recentReads knows where was read lately, in two spans of time of readHold.
type recentReads struct {
	mu          sync.Mutex
	began       time.Time // of the newer span; zero before the first read
	newer, past int64     // the lowest offset that was read in it, and in the one before
}

func (r *recentReads) note(from int64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(now)
	if r.began.IsZero() {
		r.began, r.past = now, math.MaxInt64
		r.newer = from
	}
	r.newer = min(r.newer, from)
}

// turn begins a new span where the newer one is over.
func (r *recentReads) turn(now time.Time) {
	switch age := now.Sub(r.began); {
	case r.began.IsZero() || age < readHold:
	case age < 2*readHold:
		r.began, r.newer, r.past = now, math.MaxInt64, r.newer
	default:
		r.began = time.Time{}
	}
}

// lowest returns the offset from which on records are kept; beyond all of them
// where nobody has read lately.
func (r *recentReads) lowest(now time.Time) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(now)
	if r.began.IsZero() {
		return math.MaxInt64
	}
	return min(r.newer, r.past)
}

// DeadLetters implements pipeline.History. It reads the file that this process
// has open, also where somebody has moved it away.
func (h embeddedHistory) DeadLetters(ctx context.Context, skip int64, fn func(pipeline.DeadLetter) error) error {
	d := h.e.dead
	size, err := d.size()
	if err != nil {
		return fmt.Errorf("read the dead letters in %s: %w", d.path, err)
	}
	lines := bufio.NewReaderSize(io.NewSectionReader(d.file, 0, size), 64<<10)
	for n := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := lines.ReadBytes('\n')
		line = bytes.TrimRight(line, "\n")
		if len(line) > 0 {
			if n++; n > skip {
				if err := fn(letterOf(line, d.path, n-1)); err != nil {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the dead letters in %s: %w", d.path, err)
		}
	}
}

// size returns how long the file is, while nobody writes a line.
func (d *deadFile) size() (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	info, err := d.file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
