package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Server is one running server. Its methods may be called concurrently; they do not wait for one another.
type Server struct {
	Kind string // "mysqld", "mariadbd", "kafka", "redis", "valkey", "sentinel"
	Addr string // 127.0.0.1:port, the same over restarts

	// Nodes holds the brokers of a Kafka cluster, this server's first; nil for a single server.
	Nodes []*Server

	inst  instance
	by    string // the backend that runs it
	spec  *spec
	ports []port

	mu      sync.Mutex
	version string
}

// spec is what a backend needs to know about a server.
type spec struct {
	kind      string
	component string            // whose folder, or image, it runs from
	args      []string          // of the server program, the same in both backends
	ports     []port            // the clients' port first
	files     map[string]string // name → content, in the server's working folder
	native    func(ctx context.Context, n *native, sp *spec, dir string) (*process, error)
	container containerSpec
	// ready connects and reports the server's version. An error means "not yet".
	ready func(ctx context.Context, s *Server) (version string, err error)
}

// containerSpec is how a spec becomes a container; its command is cmd followed by the spec's args.
type containerSpec struct {
	cmd []string
	env map[string]string
}

// instance is a process or a container.
type instance interface {
	start(ctx context.Context) error
	stop(ctx context.Context) error
	kill() error
	pause() error
	resume() error
	pid() int
	logs() []byte
	exited() <-chan struct{}
	remove() error
}

// startTimeout bounds one start until the server answers. Seconds, but the machine may be busy with many tests.
const startTimeout = 3 * time.Minute

// run starts a new server, again on other ports where somebody else took them first.
func (e *Env) run(ctx context.Context, ports int, fixed int, describe func(ports []port) *spec) (*Server, error) {
	var last error
	for range 5 {
		taken, err := takePorts(ports, fixed)
		if err != nil {
			return nil, err
		}
		s, err := e.runOn(ctx, taken, describe(taken))
		if err == nil {
			return s, e.add(s)
		}
		last = err
		if fixed != 0 || !errors.Is(err, errPortTaken) {
			break
		}
	}
	return nil, last
}

func takePorts(n, fixed int) (taken []port, err error) {
	for i := range n {
		var p port
		if i == 0 && fixed != 0 {
			p, err = takePortNumber(fixed)
		} else {
			p, err = takePort()
		}
		if err != nil {
			releasePorts(taken)
			return nil, err
		}
		taken = append(taken, p)
	}
	return taken, nil
}

func releasePorts(ports []port) {
	for _, p := range ports {
		p.release()
	}
}

func (e *Env) runOn(ctx context.Context, ports []port, sp *spec) (*Server, error) {
	dir, err := e.newDir(sp.kind)
	if err != nil {
		releasePorts(ports)
		return nil, err
	}
	sp.ports = ports
	inst, by, err := e.backend.launch(ctx, sp, dir)
	if err != nil {
		releasePorts(ports)
		return nil, fmt.Errorf("start %s: %w", sp.kind, err)
	}
	s := &Server{Kind: sp.kind, Addr: ports[0].addr(), inst: inst, by: by, spec: sp, ports: ports}
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Start starts a stopped or killed server again, with the same data and address, and waits until it answers.
func (s *Server) Start(ctx context.Context) error {
	if s.Nodes != nil {
		return s.each(func(n *Server) error { return n.inst.start(ctx) }, func(n *Server) error { return n.waitReady(ctx) })
	}
	if err := s.inst.start(ctx); err != nil {
		return fmt.Errorf("start %s: %w", s.Kind, err)
	}
	return s.waitReady(ctx)
}

// waitReady polls: no server tells a client that it is not listening yet.
func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		version, err := s.probe(ctx)
		if err == nil {
			s.mu.Lock()
			s.version = version
			s.mu.Unlock()
			return nil
		}
		last = err
		select {
		case <-s.inst.exited():
			return s.exitError()
		case <-ctx.Done():
			return fmt.Errorf("%s at %s does not answer: %w; its log ends:\n%s", s.Kind, s.Addr, last, s.LogTail(15))
		case <-tick.C:
		}
	}
}

// probe asks the server for its version. Drivers log and retry refused connections: so first see that it listens.
func (s *Server) probe(ctx context.Context) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	go func() { // a server that ended needs no answer any more
		select {
		case <-s.inst.exited():
			cancel()
		case <-ctx.Done():
		}
	}()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return "", err
	}
	_ = conn.Close()
	return s.spec.ready(ctx, s)
}

// exitError explains a server that ended while starting.
func (s *Server) exitError() error {
	err := fmt.Errorf("%s ended while starting; its log ends:\n%s", s.Kind, s.LogTail(15))
	if strings.Contains(s.LogTail(100), "Address already in use") { // Redis, mysqld and the JVM all print the system's text
		return fmt.Errorf("%w: %w", errPortTaken, err)
	}
	return err
}

// Stop shuts the server down cleanly; one that does not end within 30 seconds, or before ctx does, is killed and an error
// returned.
func (s *Server) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return s.each(func(n *Server) error { return n.inst.stop(ctx) })
}

// Kill ends the server at once (SIGKILL) and waits until it is gone.
func (s *Server) Kill() error { return s.each(func(n *Server) error { return n.inst.kill() }) }

// Pause freezes the server (SIGSTOP, or the engine's pause): connections stay open and nothing answers.
func (s *Server) Pause() error { return s.each(func(n *Server) error { return n.inst.pause() }) }

// Resume ends a Pause.
func (s *Server) Resume() error { return s.each(func(n *Server) error { return n.inst.resume() }) }

// Close kills the server, frees its port and removes its data. It is idempotent, and Env.Close does it too.
func (s *Server) Close() error {
	return s.each(func(n *Server) error {
		n.mu.Lock()
		ports := n.ports
		n.ports = nil
		n.mu.Unlock()
		if ports == nil {
			return nil
		}
		defer releasePorts(ports)
		return n.inst.remove()
	})
}

// each runs every step on all nodes before the next step, in parallel: a quorum needs its members at the same time.
func (s *Server) each(steps ...func(*Server) error) error {
	if s.Nodes == nil {
		for _, step := range steps {
			if err := step(s); err != nil {
				return fmt.Errorf("%s at %s: %w", s.Kind, s.Addr, err)
			}
		}
		return nil
	}
	for _, step := range steps {
		errs := make([]error, len(s.Nodes))
		var wg sync.WaitGroup
		for i, n := range s.Nodes {
			wg.Go(func() { errs[i] = step(n) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// Addrs returns the addresses of all nodes, or the one address.
func (s *Server) Addrs() []string {
	if s.Nodes == nil {
		return []string{s.Addr}
	}
	var all []string
	for _, n := range s.Nodes {
		all = append(all, n.Addr)
	}
	return all
}

// Pid returns the server's process id on this machine, 0 when it is not running. For benchmarks and fault injection.
func (s *Server) Pid() int { return s.inst.pid() }

// Version returns what the server calls its version.
func (s *Server) Version() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// LogTail returns the last n lines that the server printed.
func (s *Server) LogTail(n int) string {
	lines := bytes.Split(bytes.TrimRight(s.inst.logs(), "\n"), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte("\n")))
}
