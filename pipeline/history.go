package pipeline

import (
	"context"
	"time"
)

// History reads records that are in the log, beside the passes and without
// cursors. It is implemented by the logs in package bus, and by a client of the
// process that has an embedded log open. It is safe for concurrent use.
type History interface {
	// Bounds returns, by partition, the oldest offset that can be read and the one
	// behind the newest durable record.
	Bounds(ctx context.Context) ([]Bounds, error)
	// OffsetAt returns the offset of the first record that was appended at or after
	// a time, by the clock of the log; the end where there is none. A lower offset
	// is allowed, a higher one is not.
	OffsetAt(ctx context.Context, partition int, t time.Time) (int64, error)
	// Read calls fn with records of [from, until) in order, some at a time, until
	// fn fails, whose error it returns as it is. A *LogGapError says that some are
	// gone, or not there yet. Offsets may be missing (transactions' markers).
	// Passing trouble is retried without end.
	Read(ctx context.Context, partition int, from, until int64, fn func([]Message) error) error
	// DeadLetters calls fn with each dead letter there is now, in order, from the
	// number skip on, counted from 0, until fn fails, whose error it returns as it
	// is. What is kept as a dead letter and cannot be read comes as one whose Data
	// are the bytes as they are.
	DeadLetters(ctx context.Context, skip int64, fn func(DeadLetter) error) error
}

// Bounds are the readable offsets of a partition: [Start, End).
type Bounds struct {
	Start int64 `json:"start"`
	End   int64 `json:"end"`
}
