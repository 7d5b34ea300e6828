package binlog

import (
	"net"
	"sync"
	"time"
)

// patientConn limits the time of each read by streamTimeout. The library's own
// limit (BinlogSyncerConfig.ReadTimeout) would be set when an event has come, and
// so count the time for which the event's handler, and the gate in it, holds the
// stream; and it is set several times for each event, which is a good seventh of
// a busy tailer's processor time. canal sets none at all on its SQL connection
// (go-mysql v1.16.0 canal/canal.go).
type patientConn struct {
	net.Conn
	mu    sync.Mutex // the library's Close sets a deadline while its reader reads
	own   bool       // its user sets deadlines
	until time.Time
}

// deadlineStep is how much too early a deadline may come, so that not every
// read has to set it.
const deadlineStep = streamTimeout / 5

// SetReadDeadline leaves deadlines to the caller until it takes them away.
func (p *patientConn) SetReadDeadline(t time.Time) error {
	p.take(t)
	return p.Conn.SetReadDeadline(t)
}

// SetDeadline is as SetReadDeadline.
func (p *patientConn) SetDeadline(t time.Time) error {
	p.take(t)
	return p.Conn.SetDeadline(t)
}

func (p *patientConn) take(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own, p.until = !t.IsZero(), time.Time{}
}

func (p *patientConn) Read(b []byte) (int, error) {
	if err := p.postpone(time.Now().Add(streamTimeout)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

func (p *patientConn) postpone(at time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own || at.Sub(p.until) < deadlineStep {
		return nil
	}
	p.until = at
	return p.Conn.SetReadDeadline(at)
}
