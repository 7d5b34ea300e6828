package replay

import (
	"context"
	"encoding/json"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Cursor says where a Source goes on, in the Source's own words; "" is its
// beginning.
type Cursor string

// Chunk is one step of a Source: what is done again after a crash. It holds a
// few thousand rows at most.
type Chunk struct {
	Events []pipeline.Event
	// Rows is how many rows, changes or lines were looked at, also those that no
	// rule needs. It is for the progress bar and the summary.
	Rows int64
	Next Cursor // behind this chunk
	// Done is the share of the whole that lies before Next, from 0 to 1; negative
	// where it is not known.
	Done float64
}

// Source is what is replayed. The implementations are in the packages below this
// one. A Source is used by one goroutine at a time.
type Source interface {
	// Plan looks at what would be read and fixes what is relative: "until now"
	// becomes an offset, a GTID set, a last primary key. It reads little and
	// changes nothing. It is called once, before Read, of a new replay; a resumed
	// one is opened from Plan.Fixed and not planned again.
	Plan(ctx context.Context) (Plan, error)
	// Read calls fn for each chunk behind from, in order, and returns nil at the
	// end, the error of ctx when that ends, or fn's error as it is. Passing trouble
	// is retried within. fn blocks: that is the flow control. The chunk is fn's.
	Read(ctx context.Context, from Cursor, fn func(context.Context, Chunk) error) error
}

// Plan is what a Source says before anything is deleted.
type Plan struct {
	// What says in a few lines what will be read, for people.
	What []string
	// Warnings are what the replay will not cover, and what would: whole sentences.
	Warnings []string
	// Rows is how many rows or changes there are, about; negative if unknown.
	Rows int64
	// Fixed is what the source is opened from again after a crash: the arguments,
	// with everything relative made absolute.
	Fixed json.RawMessage
}

// Target is where events go. It is safe for concurrent use.
type Target interface {
	// Publish returns when the events are durable in the target's log. It splits
	// what is too large for one record. Passing trouble is retried without end.
	Publish(ctx context.Context, events []pipeline.Event) error
	// Backlog says how many records of the target's log each pass has still to
	// handle, of this replay and of others; at least one while anything is owed, such
	// as second deletes to a reader that is out.
	Backlog(ctx context.Context) (Backlog, error)
}

// Backlog is how far the passes over a Target's log are behind its end, in records.
type Backlog struct{ First, Second int64 }

// Load is what a Pace looks at: what the live traffic feels.
type Load interface {
	// Redis returns how long Redis took to answer a small question just now.
	Redis(ctx context.Context) (time.Duration, error)
	// Live returns how late live deletes are: the age of the oldest transaction
	// that the first pass has not gone past. known is false while nobody tells,
	// which is so where the pipeline is stopped.
	Live(ctx context.Context) (lag time.Duration, known bool, err error)
}

// Log reads records that are in the live log: a log of package bus, or a client of
// the process that has an embedded log open.
type Log = pipeline.History
