package history

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

const (
	// A chunk of the log is handed over when it has so many rows, or when so many
	// records were looked at, whatever they held.
	logChunkRows    = 2000
	logChunkRecords = 5000
)

// LogSource replays records of the log. It is a replay.Source.
type LogSource struct {
	LogDeps
	spec  LogSpec
	lacks []Lack
	only  []pipeline.Scope
}

// OpenLog returns a source that replays records of the log. It does not connect.
func OpenLog(d LogDeps, spec LogSpec) (*LogSource, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	if !spec.Until.IsZero() && spec.Until.Before(spec.Since) {
		return nil, fmt.Errorf("the range of the log ends (%s) before it begins (%s)", spec.Until.UTC().Format(time.RFC3339), spec.Since.UTC().Format(time.RFC3339))
	}
	seen := map[int]bool{}
	for _, r := range spec.Ranges {
		switch {
		case r.Partition < AllPartitions:
			return nil, fmt.Errorf("partition %d of the log: they are counted from 0", r.Partition)
		case seen[r.Partition] || seen[AllPartitions] || r.Partition == AllPartitions && len(spec.Ranges) > 1:
			return nil, fmt.Errorf("partition %d of the log is given twice", r.Partition)
		case r.Until >= 0 && r.Until < r.From:
			return nil, fmt.Errorf("the range of partition %d ends (%d) before it begins (%d)", r.Partition, r.Until, r.From)
		}
		seen[r.Partition] = true
	}
	return &LogSource{LogDeps: d, spec: spec}, nil
}

// Lacks returns what the events of the range do not hold, though today's schema
// needs it, as the last Plan found it.
func (s *LogSource) Lacks() []Lack { return s.lacks }

// Only returns what the range invalidates and no binlog of its time holds, as the
// last Plan found it: everything for records that cannot be decoded, and what the
// tailer invalidated by itself (after a gap, at its first start).
func (s *LogSource) Only() []pipeline.Scope { return s.only }

// inTime says whether an event is one of the time range, or may be.
func (s *LogSource) inTime(e *pipeline.Event) bool {
	t := e.CommittedAt
	return t.IsZero() || (s.spec.Since.IsZero() || !t.Before(s.spec.Since)) && (s.spec.Until.IsZero() || !t.After(s.spec.Until))
}

// logCursor is where a Read goes on.
type logCursor struct {
	Range int   `json:"range"` // of the spec's
	At    int64 `json:"at"`
	// Swept says that everything was invalidated already, for a record that could
	// not be decoded: once is enough for all of them, since what they are about was
	// committed before.
	Swept bool `json:"swept,omitempty"`
}

// Read implements replay.Source: one partition after the other.
func (s *LogSource) Read(ctx context.Context, from replay.Cursor, fn func(context.Context, replay.Chunk) error) error {
	r := logRead{s: s, ctx: ctx, fn: fn}
	if err := fromCursor(from, &r.at); err != nil {
		return err
	}
	for _, one := range s.spec.Ranges {
		if one.Partition < 0 || one.From < 0 || one.Until < 0 {
			return errors.New("the range of the log is not fixed yet: Plan does that")
		}
		r.total += one.Until - one.From
	}
	if r.at.Range > len(s.spec.Ranges) {
		return fmt.Errorf("the cursor %q lies behind the %d ranges", from, len(s.spec.Ranges))
	}
	for i, one := range s.spec.Ranges {
		if i < r.at.Range {
			r.before += one.Until - one.From
			continue
		}
		if i > r.at.Range || from == "" {
			r.at.Range, r.at.At = i, one.From
		}
		from = "-" // used up
		if err := r.partition(one); err != nil {
			return err
		}
		r.before += one.Until - one.From
	}
	return nil
}

// logRead is one call of Read.
type logRead struct {
	s   *LogSource
	ctx context.Context
	fn  func(context.Context, replay.Chunk) error

	at            logCursor // behind what is in chunk
	chunk         replay.Chunk
	rows          int64 // in chunk
	looked        int   // records since the last chunk
	before, total int64 // offsets: of the ranges that are done, and of all
	shown         shownBy
}

func (r *logRead) partition(one LogRange) error {
	err := r.s.Log.Read(r.ctx, one.Partition, r.at.At, one.Until, func(messages []pipeline.Message) error {
		for _, m := range messages {
			r.record(one.Partition, m)
			r.at.At = m.Offset + 1
			if r.looked++; r.rows >= logChunkRows || r.looked >= logChunkRecords {
				if err := r.hand(one); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return explainGap(one.Partition, err)
	}
	r.at.At = one.Until
	if r.looked == 0 {
		return nil
	}
	return r.hand(one)
}

// record takes one record into the chunk.
func (r *logRead) record(partition int, m pipeline.Message) {
	e, err := pipeline.DecodeEvent(m.Data)
	switch {
	case err != nil:
		r.chunk.Rows++
		if !r.at.Swept {
			r.at.Swept = true
			reason := fmt.Sprintf("replay: the record at offset %d of partition %d: %v", m.Offset, partition, err)
			r.chunk.Events = append(r.chunk.Events, r.s.invalidation([]pipeline.Scope{pipeline.Everything}, reason))
		}
	case e.Kind == pipeline.KindProgress || !r.s.inTime(e):
	default:
		n := changes(e)
		r.chunk.Rows += n
		if r.s.trim(e) {
			r.rows += n
			r.chunk.Events = append(r.chunk.Events, *e)
		}
	}
}

func (r *logRead) hand(one LogRange) error {
	c := r.chunk
	c.Next, c.Done = toCursor(r.at), 1
	if r.total > 0 {
		c.Done = float64(r.before+r.at.At-one.From) / float64(r.total)
	}
	r.chunk, r.rows, r.looked = replay.Chunk{}, 0, 0
	if err := r.shown.name(r.ctx, r.s.LogDeps, c.Events); err != nil {
		return err
	}
	return r.fn(r.ctx, c)
}
