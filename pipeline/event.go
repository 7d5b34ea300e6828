package pipeline

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/doubletap-cdc/doubletap/keys"
)

// Txn names one committed transaction of a source.
type Txn struct {
	GTID string // in the source's own notation
	// CommittedAt is the commit time by the source's clock, to the microsecond
	// where the source has it; zero if unknown. It is for metrics and people: no
	// decision is made on it (I9).
	CommittedAt time.Time
	// File and Offset are the binlog coordinates at which the transaction starts.
	File   string
	Offset uint64
}

// Row is one row change, reduced to the columns that the key schema uses. The
// values stand in the order of TableRows.Columns. Before is nil for an insert,
// After is nil for a delete.
type Row struct {
	Before, After []keys.Value
}

// TableRows are row changes of one table.
type TableRows struct {
	DB, Table string
	Columns   []string
	Rows      []Row
}

// Scope names tables whose keys may all be stale. DB and Table are globs: *
// stands for any characters, ? for one, and a backslash takes the next one as it
// is; {"*", "*"} is everything.
type Scope struct {
	DB    string `json:"db"`
	Table string `json:"table"`
}

// Everything is the scope of all tables.
var Everything = Scope{DB: "*", Table: "*"}

// TableScope returns the scope of one table, whatever characters are in its
// name. A name that is not valid UTF-8, which no event can hold, stands for all.
func TableScope(db, table string) Scope {
	return Scope{DB: literal(db), Table: literal(table)}
}

var globQuoter = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `\`, `\\`)

func literal(name string) string {
	if name == "" || !utf8.ValidString(name) {
		return "*"
	}
	return globQuoter.Replace(name)
}

// Batch is a piece of one transaction, in binlog order. A small transaction is
// one Batch with First and Last set; a large one comes in bounded pieces.
type Batch struct {
	Txn         Txn
	First, Last bool
	Tables      []TableRows
	// Invalidate names the tables whose rows changed in a way that has no usable
	// rows (TRUNCATE, DDL, undecodable rows); Reason says why.
	Invalidate []Scope
	Reason     string
	// XA says what the batch is to the XA transaction XID; "" for other transactions.
	XA  XAStep
	XID string // one spelling per xid, chosen by the Source; set in the last batch
}

// XAStep is what a batch means for an XA transaction. The binlog has the rows of
// one at its PREPARE, as a transaction of its own; its COMMIT or ROLLBACK is
// another one, without rows, which may come after any time.
type XAStep string

// The steps. Rows of XAHeld and XAPrepare are not committed.
const (
	XAHeld     XAStep = "held"      // a piece of one whose end has not been read yet; never the last batch
	XAPrepare  XAStep = "prepare"   // the last batch: it is prepared
	XAOnePhase XAStep = "one phase" // the last batch: it is committed, with the pieces held before
	XACommit   XAStep = "commit"    // what was prepared as XID is committed by this transaction
	XARollback XAStep = "rollback"  // what was prepared as XID will never be
)

// empty says that the batch has nothing for the log.
func (b *Batch) empty() bool { return len(b.Tables) == 0 && len(b.Invalidate) == 0 }

// Version is the version of the event format that this package writes. It reads
// this one only: an event of another version is over-invalidated (I8).
const Version = 1

// Event kinds.
const (
	KindChanges    = "changes"    // row changes
	KindInvalidate = "invalidate" // whole tables
	// KindProgress names no change. It comes in every partition, behind all events
	// of the transactions in its GTID set, again and again, also while the source
	// is idle: who has handled it has handled them.
	KindProgress = "progress"
	// KindKeys names Redis keys as such, and globs of keys, which no key schema has
	// to know: for replays of lists of keys, and of keys that an old schema made.
	KindKeys = "keys"
)

// Event is what the log holds: row changes, or a whole-table invalidation, of
// one transaction, or a progress record, or keys. docs/events.md is the description of its form.
type Event struct {
	Version     int
	Kind        string
	Source      string    // the source's name in the configuration
	GTID        string    // of the transaction; a GTID set for an invalidation that belongs to no single one
	Seq         int       // number of the event within its transaction, from 0
	CommittedAt time.Time // as Txn.CommittedAt
	Schema      string    // keys.Schema.Hash of the tailer's schema
	// KeysBy is the hash of the schema by which alone the event is to be turned into
	// keys; "" is any, as in all that a tailer publishes. Replays set it.
	KeysBy string
	Tables []TableRows
	Scopes []Scope
	Reason string
	// Partition and Partitions belong to a progress record: the number of the one
	// that it is in, from 0, and how many there are.
	Partition, Partitions int
	// Keys are Redis keys, and Patterns are globs of them as Redis understands them,
	// with at least one character that stands for itself.
	Keys, Patterns []string
}
