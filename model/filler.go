package model

var fillerNames = [2]string{"filler 1", "filler 2"}

// fillerSteps: what applications do. A plain filler may begin although the key
// is there: it saw it missing earlier.
func (c *config) fillerSteps(s state, emit Emit[state]) {
	for i := range c.fillers {
		f := s.fillers[i]
		if i > 0 && f.done == 0 && s.fillers[0].done == 0 {
			continue // they are alike: the first one to begin is filler 1
		}
		switch {
		case f.phase == opened:
			c.storeSteps(s, i, emit)
		case f.phase == leased:
			c.snapshot(s, i, emit)
			emit(fillerNames[i], "gives up", s.finish(i))
		case f.done < c.fills && c.lease:
			c.leaseSteps(s, i, emit)
		case f.done < c.fills:
			s := s
			s.fillers[i].done++
			c.snapshot(s, i, emit)
		}
		if f.stuck != 0 {
			n := s
			n.fillers[i].stuck = 0
			if s.key == absent {
				n.key = f.stuck
			}
			emit(fillerNames[i], "the lease request that was thought lost runs", n)
		}
	}
}

// leaseSteps: take the lease. Each attempt has its own token, which it sends
// once; where the key holds the token of an earlier attempt of the same fill,
// that one has run, will not run again, and is as good.
func (c *config) leaseSteps(s state, i int, emit Emit[state]) {
	f := s.fillers[i]
	token := func(attempt int) content {
		return isLease | content(i<<4) | content(f.done<<1) | content(attempt)
	}
	take := func(t content, what string) {
		n := s
		n.key = t
		n.fillers[i] = filler{phase: leased, done: f.done + 1, token: t, stuck: f.stuck}
		emit(fillerNames[i], what, n)
	}
	switch {
	case s.key == absent && f.asked && !c.without.freshToken:
		take(token(1), "takes the lease with another token")
	case s.key == absent:
		take(token(0), "takes the lease")
	case s.key == token(0): // it asked before, and that has run
		take(token(0), "finds that it has the lease")
	}
	if s.left.request > 0 && !f.asked {
		n := s
		n.left.request--
		n.fillers[i].asked, n.fillers[i].stuck = true, token(0)
		emit(fillerNames[i], "asks for the lease, and hears nothing", n)
	}
}

// snapshot reads the row, from the source or from the replica.
func (c *config) snapshot(s state, i int, emit Emit[state]) {
	n := s
	f := &n.fillers[i]
	f.phase = opened
	if c.timely() {
		f.began = max(s.timed, s.second)
	}
	f.val = s.visible
	emit(fillerNames[i], "reads the source", n)
	if c.replica && s.replica != s.visible {
		f.val, f.lagged = s.replica, c.faults.leave+c.faults.restore > 0
		emit(fillerNames[i], "reads the replica", n)
	}
}

// storeSteps: the store runs in Redis; a copy of it may run once more.
func (c *config) storeSteps(s state, i int, emit Emit[state]) {
	f := s.fillers[i]
	n := s
	if !c.lease || c.without.compare || s.key == f.token {
		n.key = value(f.val)
		if f.revoked && !c.without.compare {
			n.violate(brokenI7)
		}
		emit(fillerNames[i], "its store runs, and may run again", n)
		emit(fillerNames[i], "its store runs", n.finish(i))
		return
	}
	emit(fillerNames[i], "its store is refused: the lease is gone", n.finish(i))
}

// finish forgets what a fill knew.
func (s state) finish(i int) state {
	f := s.fillers[i]
	s.fillers[i] = filler{done: f.done, stuck: f.stuck}
	return s
}
