package model

// A set of transactions, one bit for each: A1 and A2 of writer A, B1 and B2 of
// writer B. The cached value is made from two rows, one of each writer; a
// version of it is the set of the transactions that it shows. (Two writers of
// one row wait for each other's lock: fewer orders, all of them among these.)
type set uint8

const (
	perWriter = 2
	maxTxns   = 2 * perWriter
	maxLog    = 8 // no more than the bits of a uint8
)

func (a set) has(b set) bool { return a&b == b }

// An entry of the log: one transaction, or, with the bit whole, everything up
// to a GTID set.
type entry uint8

const whole entry = 1 << 7

// content is what Redis holds under the key: nothing, a version, or a lease.
type content uint8

const (
	absent  content = 0
	isValue content = 1 << 7
	isLease content = 1 << 6
)

func value(v set) content { return isValue | content(v) }

// phase is how far a filler has come.
type phase uint8

const (
	idle   phase = iota
	leased       // has the lease, no snapshot yet
	opened       // has the snapshot; the store may run at any time, more than once
)

// filler is a process that loads the value and stores it.
type filler struct {
	phase  phase
	done   uint8   // fills that it has begun
	val    set     // what its snapshot shows
	lagged bool    // the snapshot is the replica's
	began  uint8   // timers of offsets from here on started after its snapshot
	preGap bool    // the gap's timer started after its snapshot
	token  content // its lease
	asked  bool    // it has asked for this fill's lease, and heard nothing
	stuck  content // that request, which may still run
	// revoked says that the key was deleted since the lease was taken (I7).
	revoked bool
}

// faults are the misfortunes that may still happen.
type faults struct {
	tailerCrash uint8 // the tailer loses its memory
	crash       uint8 // the invalidator loses its memory
	redis       uint8 // Redis fails over to a replica that lags
	stall       uint8 // Redis freezes; what was sent runs late and in any order
	leave       uint8 // the replica is put out
	restore     uint8 // the replica starts again from an old backup
	source      uint8 // the replica takes the source's place
	osCrash     uint8 // the log loses what was not synced, and all memory is lost
	logLoss     uint8 // the log loses any tail, and all memory is lost
	request     uint8 // the reply to a lease request is lost
}

// state is one state of everything. It is compared by value.
type state struct {
	// MySQL. A transaction's event is readable in the binlog before the source
	// shows the transaction (the log step and the visibility step).
	issued, visible, replica set
	binlog                   [maxTxns]set
	written                  uint8
	moved                    bool // the replica has taken the source's place

	// The tailer: in memory what it has read, durable the position, what that
	// owes, and which server it is from.
	read, position set
	pending        pending
	server         bool

	// The log.
	log    [maxLog]entry
	end    uint8
	synced uint8
	known  uint8 // the synced end that stored positions and cursors name

	// The invalidator's memory.
	first, second uint8
	timed         uint8 // the timers of lower offsets have started
	late          uint8 // bits of offsets whose first delete is also the second
	sent          send
	gap           gap
	gapSet        set // what readers must show before the gap's timer starts

	// Durable facts of the invalidator.
	storedFirst, storedSecond uint8
	storedGap                 bool // the stored cursors do not fit this log
	out                       bool // the replica is out, since outFrom
	outFrom                   uint8
	restored                  bool // the replica's history went back, and nothing was repeated for that

	// Redis.
	key, copied content // at the master, and at its replica
	redo        bool    // another run id than the one that was last dealt with
	slow        bool    // frozen, or just thawing

	fillers [2]filler
	left    faults

	// Not part of the system: what the checks need.
	acked1, acked2 uint8 // bits of offsets whose deletes were acknowledged
	broken         violation
}

// pending is the whole invalidation that a position owes.
type pending uint8

const (
	nothingOwed pending = iota
	owed
	published // and the position that says so is not stored yet
)

// send is the state of the second delete that is on its way to Redis.
type send uint8

const (
	notSent  send = iota
	counted       // its reply will move the cursor
	repeated      // it was slow: it will be sent again
)

// gap is what a gap at open still needs.
type gap uint8

const (
	gapFirst  gap = 1 << iota // the first sweep
	gapTimer                  // the second sweep's timer
	gapSecond                 // the second sweep
	gapAll    = gapFirst | gapTimer | gapSecond
)

// violation is an invariant that a step has broken.
type violation uint8

const (
	none violation = iota
	brokenI1
	brokenI6
	brokenI7
	brokenEarly
	logFull
)

func (s *state) inBinlog() (all set) {
	for _, t := range s.binlog[:s.written] {
		all |= t
	}
	return all
}

func (s *state) append(e entry) {
	if s.end == maxLog {
		s.broken = logFull
		return
	}
	s.log[s.end] = e
	s.end++
}

func (s *state) violate(v violation) {
	if s.broken == none {
		s.broken = v
	}
}
