// Package commands builds and runs this module's commands as a user runs them:
// for the demo, the race harness and tests.
package commands

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// The commands' names.
const (
	Tailer      = "binlog-tailer"
	Invalidator = "invalidator"
)

// Build builds all commands into a folder. The working folder must be inside
// the module.
func Build(ctx context.Context, dir string) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", dir+string(filepath.Separator), "github.com/doubletap-cdc/doubletap/cmd/...")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the commands: %w\n%s", err, text)
	}
	return nil
}

// Process is a running command. It dies with the process that started it.
type Process struct {
	name, admin, log string
	cmd              *exec.Cmd
	asked            sync.Once
	ended            chan struct{}
	err              error // how it ended
}

// Start starts the command that Build put into dir. Its log goes to a new file
// of that folder.
func Start(ctx context.Context, dir, name, config string) (*Process, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	admin := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	logFile, err := os.CreateTemp(dir, name+"-*.log")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(dir, name), "-config", config, "-admin", admin) //nolint:noctx // it outlives the call that starts it
	cmd.Stderr = logFile
	// Its own group: an interrupt from the keyboard is for the one who started it,
	// and who then stops it in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &Process{name: name, admin: admin, log: logFile.Name(), cmd: cmd, ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The kernel kills the child when the thread that started it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		defer logFile.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// Name is the command's name.
func (p *Process) Name() string { return p.name }

// Ready waits until the process says that it is.
func (p *Process) Ready(ctx context.Context) error {
	return p.Poll(ctx, func() bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/readyz", nil)
		if err != nil {
			return false
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// Poll asks every 50 ms until cond holds. It fails when the process ends, or a
// minute is over.
func (p *Process) Poll(ctx context.Context, cond func() bool) error {
	limit := time.After(time.Minute)
	for !cond() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.ended:
			return fmt.Errorf("%s ended early: %w\n%s", p.name, p.err, p.LogTail())
		case <-limit:
			return fmt.Errorf("%s made no progress for a minute\n%s", p.name, p.LogTail())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// Metrics asks for the process's metrics, for at most 2 s.
func (p *Process) Metrics(ctx context.Context) (map[string]*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(resp.Body)
}

// Label returns the value of a metric's label, "" where it has none of the name.
func Label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// Terminate asks the process to end, once: asked again it would end at once.
func (p *Process) Terminate() {
	p.asked.Do(func() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }) // it may have ended already
}

// Stop asks the process to end, and kills it if it does not within 15 s.
func (p *Process) Stop() error {
	p.Terminate()
	select {
	case <-p.ended:
	case <-time.After(15 * time.Second):
		p.Kill()
		return fmt.Errorf("%s did not stop when asked\n%s", p.name, p.LogTail())
	}
	if p.err != nil {
		return fmt.Errorf("%s failed: %w\n%s", p.name, p.err, p.LogTail())
	}
	return nil
}

// Kill ends the process at once (SIGKILL) and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.ended
}

// LogTail returns the end of the process's log.
func (p *Process) LogTail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
