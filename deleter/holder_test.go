package deleter

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
)

// holder is a proxy before a server that can keep a request, to be sent when its
// client has long given it up.
type holder struct {
	net.Listener
	target string
	held   chan []byte

	mu   sync.Mutex
	what []byte // the next request that holds this is kept; nil: none
}

func newHolder(t *testing.T, target string) *holder {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{Listener: l, target: target, held: make(chan []byte, 1)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { h.serve(t, in) })
		}
	})
	t.Cleanup(func() {
		l.Close() //nolint:errcheck // a test's listener
		wg.Wait() // the clients were closed before
	})
	return h
}

func (h *holder) serve(t *testing.T, in net.Conn) {
	defer in.Close()                      //nolint:errcheck // a test's
	out, err := net.Dial("tcp", h.target) //nolint:noctx // of this machine
	if err != nil {
		t.Error(err)
		return
	}
	defer out.Close()   //nolint:errcheck // a test's
	go io.Copy(in, out) //nolint:errcheck // ends with the connections
	buf := make([]byte, 1<<16)
	for {
		n, err := in.Read(buf)
		if err != nil {
			return // the client has gone away
		}
		if request := buf[:n]; h.keeps(request) {
			h.held <- bytes.Clone(request)
		} else if _, err := out.Write(request); err != nil {
			return
		}
	}
}

func (h *holder) keeps(request []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.what == nil || !bytes.Contains(request, h.what) {
		return false
	}
	h.what = nil
	return true
}

// hold makes the next request that holds what be kept.
func (h *holder) hold(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.what = []byte(what)
}

// release sends what was held, and returns the reply's first line.
func (h *holder) release(t *testing.T) string {
	t.Helper()
	out, err := new(net.Dialer).DialContext(t.Context(), "tcp", h.target)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() //nolint:errcheck // a test's
	if _, err := out.Write(<-h.held); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, 100)
	n, err := out.Read(reply)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(reply[:n]))
}
