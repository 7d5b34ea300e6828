package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a server that runs as a child of this process.
type process struct {
	argv []string
	dir  string // working folder, pid file and log

	mu   sync.Mutex
	cmd  *exec.Cmd
	gone chan struct{} // closed once cmd has ended
}

var errNotRunning = errors.New("server is not running")

// start runs the server. The child is killed by the kernel when the thread that started it ends (PR_SET_PDEATHSIG), so
// that thread is kept for as long as the child lives; when this process dies, by whatever means, all its threads do.
// The child has its own process group: an interrupt typed at the terminal must not reach it before us.
func (p *process) start(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return errors.New("server is already running")
	}
	out, err := os.OpenFile(p.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.argv[0], p.argv[1:]...) //nolint:noctx // the server outlives the call that starts it
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started, gone := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(gone)
		defer out.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how a server ends is for its log to say
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.argv[0], err)
	}
	p.cmd, p.gone = cmd, gone
	return os.WriteFile(filepath.Join(p.dir, pidFile), []byte(strconv.Itoa(cmd.Process.Pid)), 0o644)
}

const pidFile = "testenv.pid"

func (p *process) logPath() string { return filepath.Join(p.dir, "log") }

// running tells whether the child lives; p.mu is held.
func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// signal sends sig to the server.
func (p *process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return errNotRunning
	}
	return p.cmd.Process.Signal(sig)
}

// stop asks the server to end, and kills it when ctx ends first.
func (p *process) stop(ctx context.Context) error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	_ = p.signal(syscall.SIGCONT) // a paused server could not answer
	select {
	case <-p.exited():
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("server did not stop in time and was killed: %w", ctx.Err()), p.kill())
	}
}

func (p *process) kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.exited()
	return nil
}

// pause returns when every thread stands still: the signal alone is only on its
// way, and a thread that runs on another core may answer once more.
func (p *process) pause() error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	pid := p.pid()
	for deadline := time.Now().Add(pauseWithin); !stopped(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d got SIGSTOP and still runs after %v", pid, pauseWithin)
		}
	}
	return nil
}

const pauseWithin = 10 * time.Second

// stopped tells whether no thread of a process runs (proc(5): state T).
func stopped(pid int) bool {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		_, state, ok := bytes.Cut(text[bytes.LastIndexByte(text, ')')+1:], []byte(" "))
		if !ok || !bytes.HasPrefix(state, []byte("T")) {
			return false
		}
	}
	return len(files) > 0
}

func (p *process) resume() error { return p.signal(syscall.SIGCONT) }

// exited is closed once the server has ended.
func (p *process) exited() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone == nil {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return p.gone
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return 0
	}
	return p.cmd.Process.Pid
}

func (p *process) logs() []byte {
	text, _ := os.ReadFile(p.logPath())
	return text
}

func (p *process) remove() error {
	err := p.kill()
	if errors.Is(err, errNotRunning) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

// killLeftovers ends servers whose data is below root. A process counts as one only if its command line, or its working
// folder, names that folder: pids are reused.
func killLeftovers(root string) {
	files, _ := filepath.Glob(filepath.Join(root, "*", pidFile))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		pid, err := strconv.Atoi(string(bytes.TrimSpace(text)))
		if err != nil || pid <= 1 {
			continue
		}
		cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.HasPrefix(cwd, root) || bytes.Contains(args, []byte(root)) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			for range 100 { // its files cannot be removed before it is gone
				if syscall.Kill(pid, 0) != nil {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
}
