package pipeline

import "time"

// Pass is one of the two passes over the log.
type Pass string

// The passes, as they appear in metrics and logs.
const (
	First  Pass = "first"
	Second Pass = "second"
)

// Hooks carry what the engine does to logs, metrics, the status page and tests.
// Every field may be nil. They are called synchronously from the engine's
// goroutines, several at a time: they must be quick and safe for concurrent use.
type Hooks struct {
	// Tailer
	Held       func(HeldInfo)       // the gate let a transaction through
	Holding    func(HeldInfo)       // the gate is holding a transaction: each second from the first on; Held is 0 when it no longer is
	Published  func(PublishedInfo)  // a transaction's events are durable in the log
	Checkpoint func(CheckpointInfo) // a position was stored
	Gap        func(reason string)  // a part of the source's history is lost
	// Prepared: so many XA transactions are prepared, as stored; forgotten is how
	// many were pushed out since the last call: each will invalidate everything.
	Prepared func(open, forgotten int)

	// Invalidator
	Joined  func(partitions int)                // the log gave this process so many partitions, perhaps none
	Owned   func(partition string, owned bool)  // a partition came or went
	Fetched func(FetchedInfo)                   // records were read for the first pass
	Handled func(partition string, next int64)  // and their keys were deleted: all of the first pass before an offset is
	Deleted func(DeletedInfo)                   // a pass's deletes were acknowledged
	Stored  func(partition string, c Cursors)   // cursors were stored
	Posted  func(partition string, w Watermark) // a watermark was posted
	Stalled func(StallInfo)                     // deletes do not count, because Redis stood still
	// OtherSchema: replayed records that are for another key schema are held back in
	// a partition, or no longer.
	OtherSchema func(OtherSchemaInfo)

	// Readers
	ReaderAsked func(ReaderInfo)    // a reader, or the source, was asked; once a second or more often
	ReaderOut   func(ReaderOutInfo) // a partition's second pass goes on without a reader, or with it again

	// Both
	OverInvalidated func(OverInfo)                                            // whole tables, and why (I8)
	DeadLettered    func(DeadLetter)                                          // a record went to the dead-letter log
	WhenErrors      func(n int)                                               // conditions that could not be evaluated, taken as true
	SchemaDiffers   func(eventHash string)                                    // events were published with another key schema; once per hash in a row
	Refused         func(keys int)                                            // keys that match a protected glob and were therefore not deleted
	Recovered       func(op string, failures int)                             // what was told by Retry works again
	Retry           func(op string, attempt int, err error, in time.Duration) // something failed and will be tried again
}

// HeldInfo says how long the gate held a transaction.
type HeldInfo struct {
	Txn  Txn
	Held time.Duration
}

// PublishedInfo describes a transaction whose events are all durable.
type PublishedInfo struct {
	Txn     Txn
	Rows    int // row changes
	Records int // records in the log
}

// CheckpointInfo describes a stored position.
type CheckpointInfo struct {
	Position    Position
	CommittedAt time.Time // of the newest transaction in it; zero if unknown
}

// FetchedInfo describes one read of the first pass.
type FetchedInfo struct {
	Partition string
	Records   int
	Behind    int64 // records that are in the log after this read
	End       int64 // the offset after the partition's newest record at this read
}

// DeletedInfo describes deletes that Redis has acknowledged.
type DeletedInfo struct {
	Partition string
	Pass      Pass
	Events    int
	Keys      []string // distinct keys; not to be kept
	Patterns  []string // whole-table patterns
	// Swept is the number of keys that the patterns deleted.
	Swept int
	// Committed holds the commit time of each event, for commit-to-delete latency.
	Committed []time.Time
	// Release says what made a second delete due; see the Release constants.
	Release Release
	// Skipped is set on a second pass that deleted nothing, because the first
	// delete was sent late enough to be the second one too.
	Skipped bool
}

// OverInfo describes an invalidation of more keys than a change named.
type OverInfo struct {
	Scope  Scope
	Rule   string // the rule, where only one is concerned
	Reason string
}

// Release is what made a second delete due.
type Release string

// The releases, as they appear in metrics and logs.
const (
	ReleaseReaders  Release = "readers"  // fill after every reader showed it
	ReleaseWithout  Release = "without"  // the same, but a reader is marked out
	ReleaseSource   Release = "source"   // fill after it was read from the log; no readers are configured
	ReleaseFallback Release = "fallback" // the fixed delay: no server can be asked about it
	ReleaseLost     Release = "lost"     // the source itself no longer has the transaction
)

// ReaderInfo is what a server showed when it was asked.
type ReaderInfo struct {
	Name   string
	Source bool          // it is the source, asked for comparison
	Server string        // its server_uuid; "" where it did not answer
	Err    error         // why it did not answer
	Behind int64         // transactions that the source shows and this server does not
	Lag    time.Duration // for how long it has lacked the oldest of them
	Late   bool          // Lag is over max_wait
}

// ReaderOutInfo says that a partition's second pass goes on without a reader,
// or with it again, from an offset.
type ReaderOutInfo struct {
	Partition string
	Reader    string
	Out       bool
	From      int64 // second deletes from here on are owed to the reader
	Reason    string
}

// StallInfo says how many keys will be deleted again because Redis stood still
// until a time.
type StallInfo struct {
	Partition string
	Until     time.Time
	Keys      int
}
