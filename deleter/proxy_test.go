package deleter

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// proxy stands before a server and can be switched to another one, which breaks
// its connections. With a TLS configuration it is what speaks TLS for the server.
type proxy struct {
	net.Listener
	mu     sync.Mutex
	target string
	conns  []net.Conn
}

func newProxy(t *testing.T, target string, encrypt *tls.Config) *proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if encrypt != nil {
		l = tls.NewListener(l, encrypt)
	}
	p := &proxy{Listener: l, target: target}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			out, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.target)
			if err != nil {
				t.Error(err)
				in.Close() //nolint:errcheck // the client notices
				p.mu.Unlock()
				continue
			}
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			wg.Go(func() { io.Copy(out, in) }) //nolint:errcheck // ends when broken
			wg.Go(func() { io.Copy(in, out) }) //nolint:errcheck // ends when broken
		}
	})
	t.Cleanup(func() {
		l.Close() //nolint:errcheck // a test's listener
		p.to("")
		wg.Wait()
	})
	return p
}

func (p *proxy) to(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	for _, c := range p.conns {
		c.Close() //nolint:errcheck // may be closed already
	}
	p.conns = nil
}

func TestTLS(t *testing.T) {
	web := httptest.NewTLSServer(http.NotFoundHandler()) // has a certificate for 127.0.0.1
	t.Cleanup(web.Close)
	s := envtest.Redis(t, memory)
	p := newProxy(t, s.Addr, &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12})
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	addr := []string{p.Addr().String()}

	trusting := open(t, Config{Addrs: addr, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
	noRefusal(t, trusting.Preflight(t.Context()))
	if err := trusting.Delete(t.Context(), []string{"a"}); err != nil {
		t.Error(err)
	}
	distrusting := open(t, Config{Addrs: addr, TLS: &tls.Config{MinVersion: tls.VersionTLS12}})
	wantFinding(t, distrusting.Preflight(t.Context()), "refused", "unknown authority", "redis.tls")
	plaintext := open(t, Config{Addrs: addr})
	if err := plaintext.Delete(t.Context(), []string{"a"}); err == nil || !strings.Contains(err.Error(), "connect to Redis") {
		t.Errorf("without TLS: %v", err)
	}
}
