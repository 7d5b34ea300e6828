package cache

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// eater is a proxy before a Redis that lets commands through, and eats replies: the
// client's connection breaks instead.
type eater struct {
	net.Listener
	target string
	delay  atomic.Int64 // of each reply, in ns

	mu   sync.Mutex
	sent bytes.Buffer // all that clients said
	what []byte       // the reply to a request that holds this is eaten
	left int          // how many times
}

func newEater(t *testing.T, target string) *eater {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &eater{Listener: l, target: target}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(in) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait() // the clients were closed before
	})
	return p
}

func (p *eater) serve(in net.Conn) {
	defer in.Close()                      //nolint:errcheck // a test's
	out, err := net.Dial("tcp", p.target) //nolint:noctx // of this machine
	if err != nil {
		return
	}
	defer out.Close() //nolint:errcheck // a test's
	cursed := make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer in.Close() //nolint:errcheck // a test's
		buf := make([]byte, 1<<16)
		for {
			n, err := out.Read(buf)
			select {
			case <-cursed:
				return
			default:
			}
			if err != nil {
				return
			}
			time.Sleep(time.Duration(p.delay.Load())) // a slow Redis
			if _, err := in.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	buf := make([]byte, 1<<16)
	for {
		n, err := in.Read(buf)
		if err != nil {
			break
		}
		if p.eats(buf[:n]) {
			cursed <- struct{}{}
		}
		if _, err := out.Write(buf[:n]); err != nil {
			break
		}
	}
	_ = out.Close()
	wg.Wait()
}

func (p *eater) eats(request []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent.Write(request)
	if p.left == 0 || !bytes.Contains(request, p.what) {
		return false
	}
	p.left--
	return true
}

// eat makes the proxy eat the replies to the next n requests that hold what.
func (p *eater) eat(what string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent.Reset()
	p.what, p.left = []byte(what), n
}

// count returns how often clients said something since the last eat.
func (p *eater) count(what string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Count(p.sent.Bytes(), []byte(what))
}

// leases returns the lease of each request for one that clients sent.
func (p *eater) leases() (all []token) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for rest := p.sent.Bytes(); ; {
		i := bytes.Index(rest, []byte(leasePrefix))
		if i < 0 {
			return all
		}
		rest = rest[i+len(leasePrefix):]
		if bytes.HasPrefix(rest[len(token{}):], []byte("\r\n$2\r\nnx\r\n")) {
			all = append(all, token(rest[:len(token{})]))
		}
	}
}
