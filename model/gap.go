package model

// gapSteps: what an invalidator does whose cursors do not fit the log. It
// deletes everything twice, beside the passes, and stores no cursor before.
func (c *config) gapSteps(s state, emit Emit[state]) {
	if s.gap&gapFirst != 0 {
		n := s
		n.delete()
		n.gap &^= gapFirst
		emit("invalidator", "sweeps for the gap", n)
	}
	shown := c.fromEvent || !c.replica || s.replica.has(s.gapSet&s.inBinlog())
	if s.gap&gapTimer != 0 && shown {
		n := s
		n.gap &^= gapTimer
		n.gapSet = 0
		for i := range n.fillers {
			n.fillers[i].preGap = n.fillers[i].phase == opened && c.timely()
		}
		emit("invalidator", "all readers show what the gap may hide: its timer starts", n)
	}
	if s.gap == gapSecond && !s.fillers[0].preGap && !s.fillers[1].preGap {
		n := s
		n.delete()
		n.gap = 0
		emit("invalidator", "sweeps for the gap again", n)
	}
}
