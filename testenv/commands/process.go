package commands

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Spec says what is started. Only Path is needed.
type Spec struct {
	Path   string // the program; of a built command its folder and its name
	Args   []string
	Env    []string  // beside the environment of this process
	Dir    string    // its working folder; default: that of this process
	Stdin  io.Reader // default: empty
	Stdout io.Writer // default: its log, like the standard error
	Log    string    // the file at whose end its log goes; default: a new one beside Path
}

// Process is a command that was started. Its methods may be called concurrently.
type Process struct {
	// Began is when it was started.
	Began time.Time
	// Admin is the host and port of its admin server: Serve sets it, or whoever has
	// said in the arguments or in the configuration where it is.
	Admin string

	log   string
	cmd   *exec.Cmd
	asked sync.Once
	ended chan struct{}
	err   error // how it ended
}

// Start starts a process and returns at once. Whoever has started it calls Stop,
// Kill, or Wait; else it lives for as long as this process.
func Start(s Spec) (*Process, error) {
	log, err := s.openLog()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(s.Path, s.Args...) //nolint:noctx // it outlives the call that starts it
	cmd.Env, cmd.Dir, cmd.Stdin = append(os.Environ(), s.Env...), s.Dir, s.Stdin
	cmd.Stdout, cmd.Stderr = s.Stdout, log
	if s.Stdout == nil {
		cmd.Stdout = log
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &Process{log: log.Name(), cmd: cmd, ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The kernel kills the child when the thread that started it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		defer log.Close()
		p.Began = time.Now()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name(), err)
	}
	return p, nil
}

func (s Spec) openLog() (*os.File, error) {
	if s.Log != "" {
		return os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	}
	return os.CreateTemp(filepath.Dir(s.Path), filepath.Base(s.Path)+"-*.log")
}

// Name is the command's name.
func (p *Process) Name() string { return filepath.Base(p.cmd.Path) }

// Pid is its process id; once it has ended, another process may have it.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended is closed once the process is gone and all its output is there.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Wait blocks until the process is gone, or ctx ends: that kills nothing, and the
// error is its cause. Otherwise it is an error where the exit code is not 0, with
// the end of the log.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if p.err != nil {
		return fmt.Errorf("%s failed: %w\n%s", p.Name(), p.err, p.LogTail())
	}
	return nil
}

// ExitCode blocks until the process is gone. It is -1 where a signal ended it.
func (p *Process) ExitCode() int {
	<-p.ended
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal; one that has ended gets none.
func (p *Process) Signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// Terminate asks the process to end (SIGTERM), once: asked again it would end at
// once. It does not wait.
func (p *Process) Terminate() { p.asked.Do(func() { p.Signal(syscall.SIGTERM) }) }

// Stop asks the process to end, blocks until it is gone, and kills it if it has not
// ended within 15 s. An exit code other than 0 is an error.
func (p *Process) Stop() error {
	p.Terminate()
	select {
	case <-p.ended:
		return p.Wait(context.Background())
	case <-time.After(15 * time.Second):
		p.Kill()
		return fmt.Errorf("%s did not stop when asked\n%s", p.Name(), p.LogTail())
	}
}

// Kill ends the process at once (SIGKILL) and blocks until it is gone. One that has
// ended is left as it is.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.ended
}

// Log returns what the process has logged, together with what was in the file
// before.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// LogTail returns the last lines of its log.
func (p *Process) LogTail() string {
	lines := strings.Split(strings.TrimSpace(p.Log()), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
