package model

// config is one model: the protocol as designed, less the parts that are left
// out, with bounds on what may happen.
type config struct {
	writes  [2]uint8 // transactions of writers A and B, at most perWriter each
	fillers int
	fills   uint8 // of each filler
	replica bool  // fills may read the replica
	standby bool  // the replica is there, and no fill reads it
	lease   bool  // the rule is lease; else it is plain
	late    bool  // fillers may be slower than fill
	// fromEvent is the rule of an invalidator that asks no reader: a second
	// delete is due fill after its event was seen.
	fromEvent bool
	// skip lets a first delete that was late enough be the second.
	skip   bool
	faults faults

	without parts
	// goOn lets a step that breaks an invariant be followed by others, to see
	// what becomes of it.
	goOn bool
}

// parts of the protocol that can be left out.
type parts struct {
	gate       bool // the tailer publishes before the source shows the change
	second     bool // no second delete
	compare    bool // a lease's fill is stored whether its lease is there or not
	freshToken bool // a lease request is sent again with the same token
	durable    bool // pending second deletes are forgotten in a crash
	acks       bool // cursors are stored without waiting for the deletes' replies
	synced     bool // cursors and positions are stored beyond the log's synced end
	slow       slowRule
	repeat     bool // a replica that returns is trusted: nothing is repeated
	timers     bool // timers that started without a replica count when it is back
	history    bool // a replica whose history went back is like any other
	older      bool // one that was restored is repeated from where it was put out only
	lost       bool // a transaction that the source has lost is waited for
	sweep      bool // a change of the source is not answered
	logGap     bool // positions and cursors of a log that lost its tail are trusted
	logEnd     bool // a position does not name the log's end: only cursors show a loss
	redo       bool // a failover of Redis is not answered
	runID      bool // the run id of Redis is kept in memory only
	// invisible leaves out the window in which an event is readable and its
	// change is not visible. It is a part of MySQL, not of the protocol.
	invisible bool
}

// slowRule says which second deletes are sent again.
type slowRule uint8

const (
	nearStall slowRule = iota // every one that was sent in or right after a stall
	ownTrip                   // those whose own round trip was slow
	never
)

func (c *config) initial() state {
	return state{left: c.faults}
}

func (c *config) system(check func(*state) error) System[state] {
	return System[state]{
		Init:  c.initial(),
		Steps: c.steps,
		Check: func(s state) error { return check(&s) },
		Quiet: func(s state) bool { return c.quiet(&s) },
	}
}

func (c *config) steps(s state, emit Emit[state]) {
	if s.broken != none && !c.goOn {
		return
	}
	c.sourceSteps(s, emit)
	c.tailerSteps(s, emit)
	c.logSteps(s, emit)
	c.invalidatorSteps(s, emit)
	c.redisSteps(s, emit)
	c.fillerSteps(s, emit)
}
