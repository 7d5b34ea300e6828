// Package admin is a command's HTTP side: health, readiness, metrics, what the
// readers show (/readers), waiting for deletes (/wait), and an embedded log for
// replays (/log/); and the hooks that feed metrics and logs from the engine.
//
// No metric and no log line carries a key: keys may be personal data.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// nextPorts is how many further ports Listen tries.
const nextPorts = 50

// Listen opens addr (host:port). Where the port is busy it takes the next free
// one, up to 50 further, and logs a warning that names it, so that several
// commands on one host can share a configuration. With exact set a busy port is
// an error: somebody chose it for this process.
func Listen(ctx context.Context, addr string, exact bool, log *slog.Logger) (net.Listener, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("admin address %q: %w", addr, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("admin address %q has no port number", addr)
	}
	var first error
	for p := port; p <= min(port+nextPorts, 65535); p++ {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(p)))
		if err == nil {
			if p != port && port != 0 {
				log.Warn("the admin port is busy; another one is taken", "wanted", addr, "taken", l.Addr().String())
			}
			return l, nil
		}
		if first == nil {
			first = err
		}
		if exact || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("listen for health and metrics: %w", err)
		}
	}
	return nil, fmt.Errorf("listen for health and metrics: %w, and neither is one of the next %d ports free", first, nextPorts)
}

// Serve answers requests until ctx ends, and returns nil then. It closes l.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve health and metrics: %w", err)
	case <-ctx.Done():
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		err := s.Shutdown(stop)
		<-ended
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil // a slow reader; the process ends anyway
		}
		return err
	}
}
