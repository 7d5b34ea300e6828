package model

var txnNames = map[set]string{1: "A1", 2: "A2", 4: "B1", 8: "B2"}

// before returns the writer's transaction before t, 0 if t is its first.
func before(t set) set {
	if t == 1<<0 || t == 1<<perWriter {
		return 0
	}
	return t >> 1
}

// sourceSteps: commits in their two steps, replication, and failover.
func (c *config) sourceSteps(s state, emit Emit[state]) {
	binlog := s.inBinlog()
	for w := range 2 {
		for i := range int(c.writes[w]) {
			t := set(1) << (w*perWriter + i)
			if s.issued.has(t) {
				continue
			}
			// A writer's transaction follows its last one, if that still exists.
			if last := before(t) & binlog; s.visible.has(last) {
				n := s
				n.issued |= t
				n.binlog[n.written] = t
				n.written++
				what := "commits: the event can be read from the binlog"
				if c.without.invisible {
					n.visible |= t
					what = "commits: the event can be read, and the source shows it"
				}
				emit(txnNames[t], what, n)
			}
			break
		}
	}
	for _, t := range s.binlog[:s.written] {
		if !s.visible.has(t) {
			n := s
			n.visible |= t
			emit(txnNames[t], "is visible on the source", n)
		}
		if (c.replica || c.standby) && !s.replica.has(t) && s.replica.has(before(t)&binlog) {
			n := s
			n.replica |= t
			emit(txnNames[t], "is visible on the replica", n)
		}
	}
	if s.left.restore > 0 && s.replica != 0 {
		n := s
		n.left.restore--
		n.replica, n.restored = 0, !c.without.history
		emit("replica", "is restored from an old backup", n)
	}
	if s.left.source > 0 {
		emit("source", "dies; the replica takes its place", failover(s))
	}
}

// failover makes the replica the source. What had not reached it is gone, even
// if readers have seen it. The old server serves no more reads; another replica
// that has all of the new source's changes is there from now on.
func failover(s state) state {
	s.left.source--
	s.moved = true
	var kept [maxTxns]set
	s.written = 0
	for _, t := range s.binlog {
		if t != 0 && s.replica.has(t) {
			kept[s.written] = t
			s.written++
		}
	}
	s.binlog, s.visible = kept, s.replica
	return s
}
