package binlog

import (
	"net"
	"time"
)

// calmConn leaves out most of the read deadlines that the library sets, several
// for each event: postponing one is a good seventh of a busy tailer's processor
// time. A deadline may so come deadlineStep too early.
type calmConn struct {
	net.Conn
	deadline time.Time
}

const deadlineStep = streamTimeout / 5

// SetReadDeadline is not safe for concurrent use, and need not be: with the
// library's Close left out, its reading goroutine is the only caller.
func (c *calmConn) SetReadDeadline(t time.Time) error {
	if later := t.Sub(c.deadline); later >= 0 && later < deadlineStep {
		return nil
	}
	c.deadline = t
	return c.Conn.SetReadDeadline(t)
}
