package binlog

import (
	"net"
	"slices"
	"testing"
	"time"
)

// deadlines records the read deadlines that reach a connection.
type deadlines struct {
	net.Conn
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

func TestCalmConnPostponesInSteps(t *testing.T) {
	inner := &deadlines{}
	conn := &calmConn{Conn: inner}
	at := time.Now().Add(streamTimeout)
	sooner := at.Add(-time.Millisecond)
	far := sooner.Add(deadlineStep)
	for _, deadline := range []time.Time{
		at,
		at.Add(deadlineStep - 1), // left out: the one that is set will do
		sooner,                   // never left out
		far,
		{}, // no deadline
		at,
	} {
		if err := conn.SetReadDeadline(deadline); err != nil {
			t.Fatal(err)
		}
	}
	if want := []time.Time{at, sooner, far, {}, at}; !slices.Equal(inner.set, want) {
		t.Errorf("deadlines that were set:\n%v, want\n%v", inner.set, want)
	}
}

func TestCalmConnTimesOut(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	conn := &calmConn{Conn: near}
	soon := time.Now().Add(20 * time.Millisecond)
	for i := range 3 {
		if err := conn.SetReadDeadline(soon.Add(time.Duration(i) * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a read from a silent connection returned data")
	}
}
