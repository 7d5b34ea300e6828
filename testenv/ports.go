package testenv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/gofrs/flock"
)

// Ports are taken below the range from which Linux gives out ports to outgoing connections (32768 and up by default), so
// that a stopped server finds its port free when it starts again.
const firstPort, lastPort = 20000, 32000

// port is a TCP port of 127.0.0.1 that no other testenv process uses while the lock is held, even when nothing listens.
type port struct {
	number int
	lock   *flock.Flock
}

func (p port) String() string { return strconv.Itoa(p.number) }
func (p port) addr() string   { return fmt.Sprintf("127.0.0.1:%d", p.number) }

func (p port) release() {
	if p.lock != nil {
		_ = p.lock.Unlock()
	}
}

// takePort finds a free port. A foreign process can still take it before the server listens: callers retry.
func takePort() (port, error) {
	var last error
	for range 200 {
		p, err := takePortNumber(firstPort + rand.IntN(lastPort-firstPort))
		if err == nil {
			return p, nil
		}
		last = err
	}
	return port{}, fmt.Errorf("find a free port: %w", last)
}

var errPortTaken = errors.New("port is taken")

// takePortNumber takes one port, or fails where it is in use.
func takePortNumber(number int) (port, error) {
	dir := filepath.Join(os.TempDir(), "doubletap-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return port{}, err
	}
	lock := flock.New(filepath.Join(dir, strconv.Itoa(number)))
	if ok, err := lock.TryLock(); err != nil {
		return port{}, err
	} else if !ok {
		return port{}, fmt.Errorf("%w: %d is used by another test", errPortTaken, number)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", number)) //nolint:noctx // a local bind does not block
	if err != nil {
		_ = lock.Unlock()
		return port{}, fmt.Errorf("%w: %w", errPortTaken, err)
	}
	return port{number, lock}, l.Close()
}
