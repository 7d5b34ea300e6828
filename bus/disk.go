package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// disk is the embedded log's segments. append is called by one goroutine, the
// rest by any.
type disk struct {
	dir    string
	bytes  int64         // a segment is closed when it holds this much,
	age    time.Duration // or is this old
	logger *slog.Logger

	mu       sync.RWMutex // guards the list and the segments' db
	segments []*segment   // by base; the last one is appended to
	openOld  *segment     // the only older segment that is kept open
}

const (
	segmentBytes = 64 << 20
	segmentAge   = time.Hour
)

// openDisk opens the segments of a folder. A newest segment that cannot be read
// is put aside, which the caller notices by the end that moved back.
func openDisk(dir string, logger *slog.Logger) (*disk, error) {
	d := &disk{dir: dir, bytes: segmentBytes, age: segmentAge, logger: logger}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		base, err := strconv.ParseInt(name, 10, 64)
		if !ok || err != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		d.segments = append(d.segments, &segment{
			base: base, path: filepath.Join(dir, e.Name()), bytes: info.Size(), created: info.ModTime(), written: info.ModTime(),
		})
	}
	slices.SortFunc(d.segments, func(a, b *segment) int { return int(a.base - b.base) })
	for i := range len(d.segments) - 1 {
		d.segments[i].end = d.segments[i+1].base
	}
	for len(d.segments) > 0 {
		newest := d.segments[len(d.segments)-1]
		err := newest.open(false)
		if err == nil {
			return d, nil
		}
		logger.Error("the newest segment of the log cannot be read; it is put aside, what it held counts as lost", "path", newest.path, "err", err)
		if err := os.Rename(newest.path, newest.path+".damaged"); err != nil {
			return nil, err
		}
		d.segments = d.segments[:len(d.segments)-1]
	}
	return d, nil
}

func (d *disk) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	for _, s := range d.segments {
		err = errors.Join(err, s.close())
	}
	return err
}

// bounds returns the first offset and the one after the last.
func (d *disk) bounds() (start, end int64) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if len(d.segments) == 0 {
		return 0, 0
	}
	return d.segments[0].base, d.segments[len(d.segments)-1].end
}

// append writes records at the end, whose offset is given, and returns when
// they are durable. After an error nothing has changed; it may be tried again.
func (d *disk) append(end int64, records [][]byte) error {
	d.mu.RLock()
	var s *segment
	if n := len(d.segments); n > 0 {
		s = d.segments[n-1]
	}
	dir, limit := d.dir, d.bytes
	d.mu.RUnlock()
	full := s != nil && s.end > s.base && (s.bytes >= limit || time.Since(s.created) >= d.age)
	if s == nil || full {
		next, err := createSegment(dir, end)
		if err != nil {
			return fmt.Errorf("create a segment in %s: %w", dir, err)
		}
		d.mu.Lock()
		d.segments = append(d.segments, next)
		if s != nil {
			err = d.retire(s)
		}
		d.mu.Unlock()
		if err != nil {
			d.logger.Warn("a finished segment of the log could not be closed", "path", s.path, "err", err)
		}
		s = next
	}
	end, size, err := s.append(end, records)
	if err != nil {
		return fmt.Errorf("append to %s: %w", s.path, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s.end, s.bytes, s.written = end, s.bytes+size, time.Now()
	return nil
}

// retire keeps s open as the one older segment. d.mu is held for writing.
func (d *disk) retire(s *segment) error {
	old := d.openOld
	d.openOld = s
	if old == nil || old == s {
		return nil
	}
	return old.close()
}

// read returns records from the offset on, up to about maxBytes. It returns a
// *LogGapError for offsets that are gone or cannot be read any more.
func (d *disk) read(from int64, maxBytes int) ([]pipeline.Message, error) {
	d.mu.RLock()
	s, next := d.find(from)
	if s == nil {
		d.mu.RUnlock()
		return nil, &pipeline.LogGapError{From: from, Start: next}
	}
	if s.db == nil {
		d.mu.RUnlock()
		if err := d.reopen(s); err != nil {
			d.logger.Error("a segment of the log cannot be read; what it holds counts as lost", "path", s.path, "err", err)
			return nil, &pipeline.LogGapError{From: from, Start: next}
		}
		return d.read(from, maxBytes)
	}
	defer d.mu.RUnlock()
	messages, err := s.read(from, maxBytes)
	if len(messages) > 0 {
		return messages, nil // a damaged block behind them comes with the next read
	}
	if err != nil {
		d.logger.Error("a block of the log is damaged; the rest of its segment counts as lost", "err", err)
	}
	return nil, &pipeline.LogGapError{From: from, Start: next}
}

// find returns the segment that holds an offset, and the base of the one after
// it (or the end of the log). Where none holds it, next is where one begins.
func (d *disk) find(from int64) (s *segment, next int64) {
	for i, s := range d.segments {
		if from < s.base {
			return nil, s.base
		}
		if from < s.end {
			if i+1 < len(d.segments) {
				return s, d.segments[i+1].base
			}
			return s, s.end
		}
		next = s.end
	}
	return nil, next
}

func (d *disk) reopen(s *segment) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.db != nil || !slices.Contains(d.segments, s) {
		return nil // another reader was faster, or it was dropped
	}
	end := s.end
	if err := s.open(true); err != nil {
		return err
	}
	// The next segment's name says where this one ended; if its own content
	// says less, the difference is a gap, which find then reports.
	s.end = min(end, s.end)
	return d.retire(s)
}

// dropBelow removes whole segments whose records all lie below an offset and
// that are no longer to be kept.
func (d *disk) dropBelow(offset int64, keepFor time.Duration, keepBytes int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var total int64
	for _, s := range d.segments {
		total += s.bytes
	}
	for len(d.segments) > 1 {
		s := d.segments[0]
		if s.end > offset || time.Since(s.written) < keepFor && total <= keepBytes {
			return nil
		}
		if d.openOld == s {
			d.openOld = nil
		}
		if err := errors.Join(s.close(), os.Remove(s.path)); err != nil {
			return fmt.Errorf("drop a segment of the log: %w", err)
		}
		d.logger.Debug("dropped a segment of the log", "path", s.path)
		total -= s.bytes
		d.segments = d.segments[1:]
	}
	return nil
}
