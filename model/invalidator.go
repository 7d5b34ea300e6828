package model

// invalidatorSteps: both passes, timers, cursors, readers that are put out.
func (c *config) invalidatorSteps(s state, emit Emit[state]) {
	c.firstPass(s, emit)
	c.secondPass(s, emit)
	c.gapSteps(s, emit)
	if s.timed < s.end && (c.fromEvent || c.shown(&s, s.log[s.timed])) {
		n := s
		n.timed++
		what := "all readers show the next event: its timer starts"
		if c.fromEvent {
			what = "the next event was seen: its timer starts"
		}
		emit("second pass", what, n)
	}
	if s.left.crash+s.left.osCrash+s.left.logLoss > 0 && s.gap == 0 {
		if n := c.store(s); n != s {
			emit("invalidator", "stores its cursors", n)
		}
	}
	if s.left.crash > 0 {
		n := s
		n.left.crash--
		emit("invalidator", "crashes, and starts at the stored cursors", c.restart(n))
	}
	if s.left.leave > 0 && !s.out && s.gap == 0 && s.second < s.end && !s.replica.has(c.waitsFor(&s, s.log[s.second])) {
		n := s
		n.left.leave--
		n.out, n.outFrom = true, s.second
		emit("invalidator", "puts the replica out, and stores since when", n)
	}
	if s.out && !s.restored {
		emit("invalidator", "the replica is back", c.comeBack(s))
	}
	if s.restored {
		n := s
		n.restored = false
		if !c.without.older || !n.out {
			n.outFrom = 0
		}
		emit("invalidator", "finds that the replica's history went back", c.comeBack(n))
	}
}

func (c *config) firstPass(s state, emit Emit[state]) {
	if s.first >= s.end {
		return
	}
	n := s
	e := s.log[s.first]
	if t := set(e); e&whole == 0 && s.inBinlog().has(t) && !s.visible.has(t) {
		n.violate(brokenEarly)
	}
	n.delete()
	n.acked1 |= 1 << s.first
	n.first++
	emit("first pass", "deletes the key", n)
	if c.skip && s.first < s.timed && c.elapsed(&s, s.first) {
		n.late |= 1 << s.first
		emit("first pass", "deletes the key, late enough for both passes", n)
	}
}

func (c *config) secondPass(s state, emit Emit[state]) {
	if s.second >= s.first {
		return
	}
	n := s
	if c.without.second || s.late>>s.second&1 != 0 {
		c.pass2(&n)
		emit("second pass", "skips the event", n)
		return
	}
	due := s.second < s.timed && !c.blocked(&s, s.second)
	if c.faults.stall == 0 {
		if due {
			c.secondDelete(&n)
			emit("second pass", "deletes the key", n)
		}
		return
	}
	switch {
	case s.sent == counted:
		n.sent = notSent
		c.secondDelete(&n)
		emit("second pass", "the delete runs, and its reply comes", n)
	case s.sent == repeated:
		n.sent = notSent
		n.delete()
		n.untime()
		emit("second pass", "the delete runs; it was slow, and the timer starts again", n)
	case s.slow && s.second < s.timed:
		if c.without.slow != never {
			n.sent = repeated
			emit("second pass", "sends the delete; it will be slow", n)
		}
		if c.without.slow != nearStall {
			n.sent = counted
			emit("second pass", "sends the delete", n)
		}
	case due:
		n.sent = counted
		emit("second pass", "sends the delete", n)
	}
}

func (c *config) secondDelete(n *state) {
	// I6. A replica that was restored a moment ago is as good as out: the second
	// pass is about to be repeated for it.
	w, out := c.waitsFor(n, n.log[n.second]), n.out || n.restored
	for _, f := range n.fillers {
		if f.phase == opened && c.timely() && !f.val.has(w) && !(f.lagged && out) {
			n.violate(brokenI6)
		}
	}
	if !n.visible.has(w) || c.replica && !out && !n.replica.has(w) {
		n.violate(brokenI6)
	}
	n.delete()
	c.pass2(n)
}

// pass2 moves the second pass on.
func (c *config) pass2(s *state) {
	s.acked2 |= 1 << s.second
	s.late &^= 1 << s.second
	s.second++
	for i := range s.fillers { // keep states that behave alike equal
		if f := &s.fillers[i]; f.phase == opened && c.timely() {
			f.began = max(f.began, s.second)
		}
	}
}

// elapsed says that fill may have gone by since the timer of an offset started,
// for a delete that would not be sent again. While Redis stalls, fill goes by for
// fills whose SET it has not run.
func (c *config) elapsed(s *state, offset uint8) bool {
	if s.slow {
		return c.without.slow != nearStall
	}
	return !c.blocked(s, offset)
}

// blocked says that less than fill has gone by since the timer of an offset
// started: a filler in time that had its snapshot by then has not stored yet.
func (c *config) blocked(s *state, offset uint8) bool {
	for _, f := range s.fillers {
		if f.phase == opened && c.timely() && f.began <= offset {
			return true
		}
	}
	return false
}

// timely says that the fillers keep to fill. With leases fill is 0.
func (c *config) timely() bool { return !c.late && !c.lease }

// waitsFor returns what a reader must show before an entry's timer starts. A
// transaction that the source no longer has is waited for by nobody: the
// invalidation of everything that follows is for it.
func (c *config) waitsFor(s *state, e entry) set {
	if c.without.lost {
		return set(e &^ whole)
	}
	return set(e&^whole) & s.inBinlog()
}

// shown says that every reader that is not out shows an entry.
func (c *config) shown(s *state, e entry) bool {
	w := c.waitsFor(s, e)
	return s.visible.has(w) && (!c.replica || s.out || s.replica.has(w))
}

// untime starts the timers from the second pass's cursor on again.
func (s *state) untime() {
	s.timed = s.second
	for i := range s.fillers {
		if f := &s.fillers[i]; f.phase == opened && f.began > s.timed {
			f.began = s.timed
		}
	}
}

func (c *config) store(s state) state {
	first, second := s.first, s.second
	if c.without.acks {
		first = min(first+1, s.end)
		second = min(second+1, first)
	}
	s.storedFirst, s.storedSecond = min(first, c.durableEnd(&s)), min(second, c.durableEnd(&s))
	s.storedGap = false
	s.known = max(s.known, s.synced)
	below1, below2 := uint8(1)<<s.storedFirst-1, uint8(1)<<s.storedSecond-1
	if s.acked1&below1 != below1 || s.acked2&below2 != below2 {
		s.violate(brokenI1)
	}
	return s
}

// restart takes the invalidator's memory. A delete that was on its way may
// still run: the step "the key expires" stands for that too.
func (c *config) restart(s state) state {
	s.first, s.second, s.late, s.sent = s.storedFirst, s.storedSecond, 0, notSent
	s.gap, s.gapSet = 0, 0
	if c.without.durable {
		s.second = s.first
	}
	if c.without.runID {
		s.redo = false
	}
	if s.storedGap {
		s.first, s.second, s.gap, s.gapSet = 0, 0, gapAll, s.visible
	}
	s.untime()
	return s
}

// comeBack lets the replica in again, and moves the second pass back to where
// it was put out. Timers that started without the replica are void even where
// no delete was made without it.
func (c *config) comeBack(s state) state {
	from := s.outFrom
	s.out, s.outFrom = false, 0
	if c.without.repeat || c.without.timers && from >= s.second {
		return s
	}
	s.second, s.storedSecond = min(s.second, from), min(s.storedSecond, from)
	again := ^(uint8(1)<<from - 1)
	s.acked2 &^= again
	s.late &^= again
	s.untime()
	return s
}
