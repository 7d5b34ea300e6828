package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// Position is a resume point in a source's history: every transaction in it is
// finished with. Only the Source that made a Position can parse it; "" is none.
type Position string

// Source follows one server's binlog. The implementations are in package binlog.
// A Source is used by one goroutine at a time, but for Advance.
type Source interface {
	// Start resolves where a tailer without a stored position begins: "current",
	// "earliest", or a GTID set in the source's own notation. An error that no
	// retry can mend (a set that cannot be parsed) wraps ErrFatal.
	Start(ctx context.Context, spec string) (Position, error)

	// Check says whether everything after p can still be had from the server
	// that answers now. It returns a *GapError where it cannot.
	Check(ctx context.Context, p Position) error

	// Run connects and calls fn for each batch in commit order, beginning after
	// from, until ctx ends, fn fails, or the connection breaks; it never
	// reconnects by itself and never returns nil. A transaction that was cut off
	// comes again from its start (First is set again). fn blocks the stream: that
	// is the flow control. fn must not keep the batch's slices.
	Run(ctx context.Context, from Position, fn func(context.Context, Batch) error) error

	// Advance returns p with the given transactions added, in commit order. It is
	// a pure function, safe to call at any time from any goroutine.
	Advance(p Position, gtids []string) (Position, error)
}

// ErrFatal is wrapped by errors that no retry can mend.
var ErrFatal = errors.New("cannot be mended by trying again")

// GapError says that a part of the history after a position is lost (purged
// binlogs, another server's history), so that any key may be stale.
type GapError struct {
	Reason string
	// Next is where to go on once everything has been invalidated. It was read
	// before this error was made, so nothing is left out between.
	Next Position
}

func (e *GapError) Error() string { return "gap in the source's history: " + e.Reason }

// Gate holds a transaction back until a reader of the source can see it.
type Gate interface {
	// Wait blocks until t is visible on the source, as the server itself says. It
	// has no time limit: if the server goes away, the one that takes its place is
	// asked. The error is ctx's, or says that the server is another one, or was
	// reset, and does not have t: then t may never come, and the stream must be
	// read again.
	Wait(ctx context.Context, t Txn) error
}

// Record is one entry for the log.
type Record struct {
	Partition int    // 0 ≤ Partition < Publisher.Partitions()
	Data      []byte // an encoded Event; not changed after Publish
}

// Publisher appends to the log. The implementations are in package bus.
type Publisher interface {
	// Partitions is the number of partitions, fixed for the Publisher's life.
	Partitions() int

	// Publish hands records over and returns once they are accepted into a
	// bounded buffer; it blocks while that is full. done is called exactly once,
	// from any goroutine and possibly before Publish returns: with nil when all
	// the records are durable, or with the reason why the Publisher gave up,
	// which happens only when it is closed or can never succeed. Passing trouble
	// is retried without end. Records of one partition keep their order. If
	// Publish itself returns an error, nothing was accepted and done is not called.
	Publish(ctx context.Context, records []Record, done func(error)) error
}

// Checkpoint is what a tailer stores.
type Checkpoint struct {
	Position Position `json:"position"`
	// Pending is the reason for a whole invalidation that must be in the log
	// before anything after Position is read; "" when there is none.
	Pending string `json:"pending,omitempty"`
	// Prepared names the XA transactions that are prepared at Position, and where
	// Tailer.Prepared has their rows: JSON of at most MaxPrepared bytes, or "" for
	// none. It is stored in one step with Position.
	Prepared string `json:"prepared,omitempty"`
}

// MaxPrepared bounds Checkpoint.Prepared, in bytes.
const MaxPrepared = 2 << 20

// Positions stores a tailer's checkpoint durably.
type Positions interface {
	// Load returns the newest checkpoint, or the zero Checkpoint if none was ever
	// stored. "Could not read" is an error, never a zero Checkpoint.
	Load(ctx context.Context) (Checkpoint, error)
	// Save returns when c is durable.
	Save(ctx context.Context, c Checkpoint) error
}

// Cursors are the two passes' places in a partition: the offset that each will
// handle next.
type Cursors struct {
	First, Second int64
	// Marks is what the second pass must remember of the readers (see marks.go):
	// a line of JSON of at most MaxMarks bytes, or "". The log stores it with the
	// offsets, in one step, and hands it back as it was.
	Marks string
}

// MaxMarks bounds Cursors.Marks, in bytes.
const MaxMarks = 3500

// Message is one record read from the log.
type Message struct {
	Offset int64
	Data   []byte
}

// Fetch is what one read of a partition brought.
type Fetch struct {
	Messages []Message // in offset order; may be empty
	Next     int64     // the offset to read from next, at least the one asked for
	End      int64     // the offset after the partition's newest record
}

// Partition is one partition of the log while this process owns it. Read may be
// called by two goroutines at a time, the others by one.
type Partition interface {
	// Name is for logs and metrics: "doubletap.shop/3".
	Name() string
	// Cursors returns the cursors as stored when ownership began; where none were
	// stored, both are the oldest offset. gap is not empty where the stored ones
	// do not fit this log (another incarnation, beyond its end), or where none
	// were stored and the log has dropped records: then the cursors are the oldest
	// offset, and everything must be invalidated.
	Cursors() (c Cursors, gap string)
	// Read returns records from the offset on, waiting for at least one until
	// ctx ends. It returns a *LogGapError where the log no longer holds from.
	Read(ctx context.Context, from int64) (Fetch, error)
	// Store makes the cursors durable. It returns ErrFenced once another owner
	// may have taken over (I4). The log may store a lower cursor than asked for,
	// up to its synced end (I1), but never a higher one.
	Store(ctx context.Context, c Cursors) error
}

// LogGapError says that records which a cursor has not passed are gone from the log.
type LogGapError struct {
	From  int64 // the offset asked for
	Start int64 // where the log can be read from
}

func (e *LogGapError) Error() string {
	return fmt.Sprintf("the log no longer holds offset %d; it can be read from %d", e.From, e.Start)
}

// ErrFenced says that the caller no longer owns the partition.
var ErrFenced = errors.New("the partition has another owner now")

// Consumer hands out the partitions that this process owns.
type Consumer interface {
	// Run calls own in a goroutine for every partition for as long as this
	// process owns it: own's ctx ends with the ownership, and own must return
	// soon after. Run returns when ctx ends (nil), or own or the log fails for
	// good. It rejoins and reconnects without end.
	Run(ctx context.Context, own func(ctx context.Context, p Partition) error) error
}

// Deleter deletes keys in Redis. The implementations are in package deleter.
// It is safe for concurrent use.
type Deleter interface {
	// Delete returns nil when Redis has acknowledged the delete of every key. On
	// an error some may be deleted; calling again is harmless.
	Delete(ctx context.Context, keys []string) error
	// DeletePatterns deletes every key that matches one of the glob patterns, on
	// every node, at a limited rate, and returns how many it deleted. On an error
	// some may be deleted; calling again is harmless.
	DeletePatterns(ctx context.Context, patterns []string) (deleted int, err error)
}

// StallWatcher is what a Deleter may be besides. A SET that a client sent in time
// may run long after, when Redis stood still in between, and then behind a
// delete that was sent at the end of the stall and answered at once (H18). Only
// something that was on its way when the stall began can notice it, so a
// StallWatcher keeps a probe going to every node.
type StallWatcher interface {
	// Calm blocks until every node has answered a probe that was sent at or after
	// at, and returns the stalls that were seen. Those of long ago may be taken
	// together. What is returned is not to be changed. The error is ctx's.
	Calm(ctx context.Context, at time.Time) (Stalls, error)
}

// Reader is a server that cache fills read from, or the source itself. The
// implementation is in package binlog.
type Reader interface {
	// Name is its address as configured.
	Name() string
	// Ask asks the server once what it shows now. It connects where it must, and
	// is bounded by ctx. It is called by one goroutine at a time.
	Ask(ctx context.Context) (View, error)
}

// View is what a server shows.
type View struct {
	// Server is its identity, the server_uuid: another one is another server, of
	// which nothing is known.
	Server string
	// Shown holds transactions that every read sees which begins after the answer:
	// a lower bound. What it lacks may be visible all the same. It does not go back
	// while the server is what it was, connections that break included.
	Shown gtid.Set
	// Written holds every transaction that any read has seen which ended before the
	// question: an upper bound, by which something is lost, or nothing is missing.
	// It holds Shown; empty stands for Shown. A transaction that no event in the log
	// can be of yet may be left out: MySQL shows rows a moment before gtid_executed
	// has their transaction (56 of 40,000 reads beside 8 writers, 9.7.4), and the
	// source's gate publishes only what is in gtid_executed.
	Written gtid.Set
}

// Watermark is how far the passes over one partition are, for applications.
type Watermark struct {
	Source                string
	Partition, Partitions int // this one's number, from 0, and how many there are
	// First and Second are GTID sets: every key that a transaction in them made
	// stale in this partition has been deleted by that pass.
	First, Second string
	// Untrusted names the rules whose cached values may be older than the pipeline
	// promises: "*" is all of them.
	Untrusted []string
	// Out holds the identities of the servers that second deletes go on without:
	// fills must not read from them. "*" stands for one that nobody could ask.
	Out []string
	// Schema is the Hash of the key schema by which the keys were made.
	Schema string
}

// Watermarks shows watermarks to applications. The implementation is in package
// deleter: they are kept in the Redis that holds the keys. It is safe for
// concurrent use.
//
// A post may be carried out long after its caller has given it up. So it is made
// in a turn, and changes nothing once that has ended.
type Watermarks interface {
	// Turn begins a turn for a partition of a source. It ends with the partition's
	// next one, whoever begins that, when something was posted in it, and d after
	// it began.
	Turn(ctx context.Context, source string, partition int, d time.Duration) (Turn, error)
	// Post replaces the partition's watermark by one that was made since the turn
	// began. What it says of trust ends by itself when the time of the turn is over;
	// the sets stay. Where the turn has ended nothing is changed, and the error is
	// ErrTurnOver; after any other error it is not known whether something was.
	// Either way a new turn is the way to go on.
	Post(ctx context.Context, t Turn, w Watermark) error
}

// Turn is what a Watermarks knows a turn by.
type Turn string

// ErrTurnOver says that a watermark was not posted, because its turn is over.
var ErrTurnOver = errors.New("the turn is over: it took too long, another one has begun since, or Redis has lost it")

// Prepared keeps the rows of XA transactions between their PREPARE, which is
// when the binlog has them, and their COMMIT, which may come after any time. It
// is a sequence of records, apart from the log. The implementations are in
// package bus. It is safe for concurrent use.
type Prepared interface {
	// Append adds records and returns once they are accepted into a bounded
	// buffer. done is called once, as Publisher.Publish does it; the records are
	// then in [from, next), in order, perhaps among others.
	Append(ctx context.Context, records [][]byte, done func(from, next int64, err error)) error
	// Read calls fn for each record of [from, next) in order, until fn fails, whose
	// error it returns as it is. A *LogGapError says that some are gone. Other
	// errors are passing trouble: go on behind the last record that came.
	Read(ctx context.Context, from, next int64, fn func(Message) error) error
	// Release says that no record below an offset will be read again. It does not
	// wait for anything.
	Release(below int64)
}
