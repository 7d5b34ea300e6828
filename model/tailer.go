package model

// tailerSteps: read, gate, publish; store the position; notice another server.
func (c *config) tailerSteps(s state, emit Emit[state]) {
	switch {
	case s.server != s.moved:
		n := s
		n.server = s.moved
		if !s.visible.has(s.position) {
			n.position = s.visible
		}
		n.read = n.position
		n.pending = nothingOwed
		if !c.without.sweep {
			n.pending = owed
		}
		emit("tailer", "finds another server, and stores what it owes", n)
	case s.pending == owed:
		n := s
		n.append(whole | entry(s.position))
		n.pending = published
		emit("tailer", "publishes the invalidation of everything", n)
	case s.pending == published:
		if c.durableEnd(&s) == s.end {
			n := s
			n.pending = nothingOwed
			c.nameEnd(&n)
			emit("tailer", "stores that it owes nothing more", n)
		}
	default:
		c.publish(s, emit)
	}
	if c.keeps(&s) {
		if durable := c.publishedDurably(&s); durable != s.position && s.pending == nothingOwed {
			n := s
			n.position = durable
			c.nameEnd(&n)
			emit("tailer", "stores its position", n)
		}
	}
	if s.left.tailerCrash > 0 && (s.read != s.position || s.pending == published) {
		n := tailerRestart(s)
		n.left.tailerCrash--
		emit("tailer", "crashes, and resumes at its position", n)
	}
}

// publish appends the next transaction of the binlog, once the gate lets it.
func (c *config) publish(s state, emit Emit[state]) {
	for _, t := range s.binlog[:s.written] {
		if s.read.has(t) {
			continue
		}
		if c.without.gate || s.visible.has(t) {
			n := s
			n.append(entry(t))
			n.read |= t
			emit("tailer", "publishes the next transaction", n)
		}
		return
	}
}

// keeps says that stored positions can still make a difference.
func (c *config) keeps(s *state) bool {
	l := s.left
	return l.tailerCrash+l.source+l.osCrash+l.logLoss > 0 || s.server != s.moved
}

// publishedDurably returns what a position may hold (I2).
func (c *config) publishedDurably(s *state) set {
	if c.durableEnd(s) == s.end {
		return s.read
	}
	durable := s.position
	for _, e := range s.log[:c.durableEnd(s)] {
		if e&whole == 0 {
			durable |= set(e) & s.read
		}
	}
	return durable
}

// nameEnd has what is stored name the log's synced end.
func (c *config) nameEnd(s *state) {
	if !c.without.logEnd {
		s.known = max(s.known, s.synced)
	}
}

func tailerRestart(s state) state {
	s.read = s.position
	if s.pending == published {
		s.pending = owed
	}
	return s
}
