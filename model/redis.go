package model

// redisSteps: what happens in Redis without us, and what we do about it.
func (c *config) redisSteps(s state, emit Emit[state]) {
	if s.key != absent {
		n := s
		n.delete()
		emit("Redis", "the key expires", n)
	}
	if c.faults.redis > 0 {
		if s.copied != s.key && s.left.redis > 0 {
			n := s
			n.copied = s.key
			emit("Redis", "replicates the key", n)
		}
		if s.left.redis > 0 {
			n := s
			n.left.redis--
			n.key = s.copied
			if n.left.redis == 0 {
				n.copied = absent // not needed any more
			}
			n.redo = !c.without.redo
			for i := range n.fillers {
				if f := &n.fillers[i]; f.token == n.key && n.key != absent {
					f.revoked = false // the delete is undone, not ignored
				}
			}
			emit("Redis", "fails over: what had not been replicated is undone", n)
		}
		if s.redo {
			n := s
			n.delete()
			n.redo = false
			emit("invalidator", "finds another run id, and deletes again", n)
		}
	}
	if s.left.stall > 0 && !s.slow {
		n := s
		n.left.stall--
		n.slow = true
		emit("Redis", "stalls: what is sent runs late", n)
	}
	if s.slow {
		n := s
		n.slow = false
		emit("Redis", "has recovered", n)
	}
}

// delete removes the key, whoever does it.
func (s *state) delete() {
	s.key = absent
	for i := range s.fillers {
		if f := &s.fillers[i]; f.token != 0 {
			f.revoked = true
		}
	}
}
