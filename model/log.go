package model

// loses says that the model has a log that can lose its tail.
func (c *config) loses() bool { return c.faults.osCrash+c.faults.logLoss > 0 }

// durableEnd is the end of what positions and cursors may count on.
func (c *config) durableEnd(s *state) uint8 {
	if !c.loses() || c.without.synced {
		return s.end
	}
	return s.synced
}

// logSteps: the disk, and what it loses.
func (c *config) logSteps(s state, emit Emit[state]) {
	if !c.loses() {
		return
	}
	if s.synced < s.end {
		n := s
		n.synced = s.end
		emit("log", "syncs", n)
	}
	if s.left.osCrash > 0 {
		for end := s.synced; end < s.end; end++ {
			n := c.cut(s, end)
			n.left.osCrash--
			emit("log", "loses what was not synced, in a crash of the machine", n)
		}
	}
	if s.left.logLoss > 0 {
		for end := range s.end {
			n := c.cut(s, end)
			n.left.logLoss--
			emit("log", "loses its tail, and all processes start again", n)
		}
	}
}

// cut ends the log at an offset and restarts everything. Where something stored
// names a later end, the log is a new incarnation: then position and cursors do
// not fit it, which is a gap for both.
func (c *config) cut(s state, end uint8) state {
	for i := end; i < s.end; i++ {
		s.log[i] = 0
	}
	s.end = end
	s.synced = min(s.synced, end)
	kept := uint8(1)<<end - 1
	s.acked1, s.acked2 = s.acked1&kept, s.acked2&kept
	if s.known > end && !c.without.logGap {
		s.storedGap = true
		s.known = 0
		if s.pending == nothingOwed && !c.without.logEnd {
			s.pending = owed
		}
	}
	return c.restart(tailerRestart(s))
}
