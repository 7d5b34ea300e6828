package model

import (
	"errors"
	"fmt"
)

var violations = map[violation]error{
	brokenI1:    errors.New("I1: a cursor is stored ahead of the deletes that Redis has acknowledged"),
	brokenI6:    errors.New("I6: a second delete came before fill had gone by on every reader"),
	brokenI7:    errors.New("I7: a fill was stored although its lease had been deleted"),
	brokenEarly: errors.New("a first delete came before the source showed the change"),
	logFull:     errors.New("the model's log is full: lower the bounds, or enlarge it"),
}

// check is all that must hold in every state.
func (c *config) check(s *state) error {
	if err := c.checkQuiet(s); err != nil {
		return err
	}
	if s.broken != none {
		return violations[s.broken]
	}
	return c.checkValue(s)
}

// checkQuiet is what must hold when all is done: the key is absent or equal to
// the row. A lease counts as absent: it is no value.
func (c *config) checkQuiet(s *state) error {
	if s.broken == logFull {
		return violations[logFull]
	}
	if s.key&isValue != 0 && s.key != value(s.visible) && c.quiet(s) {
		return fmt.Errorf("stale for good: all is done, the row is %s, the key is %s", s.visible, s.key)
	}
	return nil
}

// checkValue is the promise for every moment: a value in Redis shows each change
// whose second delete is done. What a replica that is out puts there, and what
// a failover of Redis brought back, is excepted until it has been dealt with.
func (c *config) checkValue(s *state) error {
	if s.key&isValue == 0 || s.redo {
		return nil
	}
	done := s.second
	if s.restored {
		done = 0
	}
	if s.out {
		done = min(done, s.outFrom)
	}
	v, binlog := set(s.key&^isValue), s.inBinlog()
	for i, e := range s.log[:min(done, s.end)] {
		if !v.has(c.waitsFor(s, e)) {
			return fmt.Errorf("the second delete of offset %d is done, and the key is still %s", i, s.key)
		}
		// An invalidation of everything is also for what the old source has lost.
		if e&whole != 0 && s.server == s.moved && v&^binlog != 0 {
			return fmt.Errorf("everything was invalidated twice, and the key %s shows a lost commit", s.key)
		}
	}
	return nil
}

// quiet says that every change has gone all the way, and that nobody is at it.
func (c *config) quiet(s *state) bool {
	binlog := s.inBinlog()
	for _, f := range s.fillers {
		if f.phase != idle || f.stuck != 0 {
			return false
		}
	}
	return s.visible == binlog && (!c.replica || s.replica == binlog) &&
		s.server == s.moved && s.pending == nothingOwed && s.read.has(binlog) &&
		s.first >= s.end && s.second >= s.end && s.sent == notSent && s.gap == 0 &&
		!s.out && !s.restored && !s.redo && !s.slow
}
