package integration

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is one run of a command.
type process struct {
	t     *testing.T
	name  string
	admin string // address of its admin server
	log   string // file
	cmd   *exec.Cmd
	done  chan struct{}
	code  int
	last  bool // not killed before the end of the test
}

// secret is the password of every server in these tests; no output may hold it.
const secret = `p"w: 'x#{1}$y`

// start runs a command; its output goes to a file. The process is killed when the test ends, or this process.
func start(t *testing.T, name, config string, args ...string) *process {
	t.Helper()
	path := command(t, name)
	log, err := os.CreateTemp(filepath.Dir(config), name+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, name: name, log: log.Name(), done: make(chan struct{})}
	p.cmd = exec.Command(path, append([]string{"-config", config}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), "MYSQL_PASSWORD="+secret, "REDIS_PASSWORD="+secret)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	go func() { // the kernel kills the child when the thread that started it ends
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		defer log.Close()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
			p.code = p.cmd.ProcessState.ExitCode()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.last = p.running() || p.last
		p.kill()
		p.review()
	})
	return p
}

// review looks at the output once the process has ended.
func (p *process) review() {
	text := p.output()
	if strings.Contains(strings.ReplaceAll(text, `\"`, `"`), secret) {
		p.t.Errorf("%s printed a password", p.name)
	}
	if strings.Contains(text, "WARNING: DATA RACE") || strings.Contains(text, "panic: ") {
		p.t.Errorf("%s: a data race or a panic:\n%s", p.name, text)
	} else if p.t.Failed() {
		lines := 5
		if p.last {
			lines = 40
		}
		p.t.Logf("%s (exit code %d) printed at the end:\n%s", p.name, p.code, tail(text, lines))
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(all) > lines {
		all = append([]string{fmt.Sprintf("... %d lines before", len(all)-lines)}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "\n")
}

func (p *process) output() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Error(err)
	}
	return string(text)
}

// kill sends SIGKILL and waits for the end.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// stop sends SIGTERM and returns the exit code.
func (p *process) stop() int {
	p.t.Helper()
	p.last = true
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.wait(30 * time.Second)
}

// wait returns the exit code; it fails the test when the process does not end in time.
func (p *process) wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.code
	case <-time.After(limit):
		p.t.Fatalf("%s did not end within %v:\n%s", p.name, limit, tail(p.output(), 40))
		return -1
	}
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// eventually polls a condition that nothing announces, and fails the test when it does not come true.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("test is over before: %s", what)
		}
	}
}

// ready waits for /readyz to say so.
func (p *process) ready() {
	p.t.Helper()
	last := ""
	deadline := time.Now().Add(60 * time.Second)
	for time.Now().Before(deadline) {
		if !p.running() {
			p.t.Fatalf("%s ended with code %d before it was ready:\n%s", p.name, p.code, tail(p.output(), 40))
		}
		code, body, err := p.get("/readyz")
		if err == nil && code == http.StatusOK {
			return
		}
		last = fmt.Sprint(code, body, err)
		time.Sleep(20 * time.Millisecond) // nothing announces readiness
	}
	p.t.Fatalf("%s is not ready: %s\n%s", p.name, last, tail(p.output(), 40))
}

func (p *process) get(path string) (code int, body string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// metric returns the sum of a metric's series whose labels contain all the given texts, such as pass="second".
func (p *process) metric(name string, labels ...string) (sum float64, err error) {
	code, body, err := p.get("/metrics")
	if err != nil || code != http.StatusOK {
		return 0, errors.Join(err, fmt.Errorf("/metrics: code %d", code))
	}
	found := false
	lines := bufio.NewScanner(bytes.NewReader([]byte(body)))
	lines.Buffer(nil, 1<<20)
next:
	for lines.Scan() {
		series := lines.Text()
		i := strings.LastIndexByte(series, ' ')
		if i < 0 {
			continue
		}
		series, value := series[:i], series[i+1:]
		base, rest, _ := strings.Cut(series, "{")
		if base != name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue next
			}
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("%s has no metric %s %v", p.name, name, labels)
	}
	return sum, nil
}

// freeAddr returns an address on which nobody listens now.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
