package binlog

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// slowConn has a read that takes a while, and notes deadlines.
type slowConn struct {
	net.Conn
	takes time.Duration
	until time.Time
	set   int
}

func (s *slowConn) SetReadDeadline(t time.Time) error {
	s.until = t
	s.set++
	return nil
}

func (s *slowConn) Read([]byte) (int, error) {
	time.Sleep(s.takes)
	if !s.until.IsZero() && time.Now().After(s.until) {
		return 0, os.ErrDeadlineExceeded
	}
	return 1, nil
}

func TestPatientConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowConn{}
		conn := &patientConn{Conn: slow}
		read := func(takes time.Duration) error {
			slow.takes = takes
			_, err := conn.Read(make([]byte, 1))
			return err
		}
		for range 1000 {
			if err := read(time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		if slow.set > 3 {
			t.Errorf("a deadline was set %d times in a second", slow.set)
		}
		time.Sleep(time.Hour) // the reader is held
		if err := read(streamTimeout - deadlineStep); err != nil {
			t.Errorf("after a pause of the reader: %v", err)
		}
		if err := read(streamTimeout + time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a read that never ends: %v", err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if err := read(time.Minute); err != nil {
			t.Errorf("with a deadline of the caller's own: %v", err)
		}
	})
}
