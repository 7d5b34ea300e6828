package commands

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// helperVar makes the test binary play a command: see helpers.
const helperVar = "DOUBLETAP_COMMANDS_HELPER"

func TestMain(m *testing.M) {
	if f := helpers[os.Getenv(helperVar)]; f != nil {
		os.Exit(f())
	}
	os.Exit(m.Run())
}

var helpers = map[string]func() int{
	// echo prints its input, and to its log its folder.
	"echo": func() int {
		_, _ = io.Copy(os.Stdout, os.Stdin)
		dir, _ := os.Getwd()
		fmt.Fprintln(os.Stderr, "in", dir, "args", os.Args[1:])
		return 3
	},
	"sleep": func() int { select {} },
	// own starts a sleeper and prints its process id.
	"own": func() int {
		p, err := Start(Spec{Path: os.Args[0], Env: []string{helperVar + "=sleep"}, Log: os.Args[1]})
		if err != nil {
			return 1
		}
		fmt.Println(p.Pid())
		select {}
	},
	// serve is not ready before it was asked twice.
	"serve": func() int {
		asked := 0
		http.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
			if asked++; asked < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "# TYPE n counter\nn{pass=\"first\",kind=\"a\"} 1\nn{pass=\"first\",kind=\"b\"} 2\nn{pass=\"second\",kind=\"b\"} 4\n")
		})
		fmt.Fprintln(os.Stderr, http.ListenAndServe(os.Args[2], nil))
		return 1
	},
}

func helper(t *testing.T, name string, s Spec) Spec {
	t.Helper()
	s.Path, s.Env = os.Args[0], []string{helperVar + "=" + name}
	if s.Log == "" {
		s.Log = filepath.Join(t.TempDir(), "log")
	}
	return s
}

func run(t *testing.T, start func(Spec) (*Process, error), s Spec) *Process {
	t.Helper()
	p, err := start(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestInputAndOutput(t *testing.T) {
	dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	for range 2 { // the second one's log goes behind the first one's
		var out bytes.Buffer
		p := run(t, Start, helper(t, "echo", Spec{Args: []string{"a", "b"}, Dir: dir, Stdin: strings.NewReader("hello"), Stdout: &out, Log: log}))
		if err := p.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "in "+dir) {
			t.Errorf("Wait = %v", err)
		}
		if p.ExitCode() != 3 || out.String() != "hello" {
			t.Errorf("exit code %d, printed %q", p.ExitCode(), out.String())
		}
		if err := p.EndedEarly(); err == nil || !strings.Contains(err.Error(), "exit status 3") {
			t.Errorf("EndedEarly = %v", err)
		}
	}
	text, err := os.ReadFile(log)
	if want := strings.Repeat("in "+dir+" args [a b]\n", 2); err != nil || string(text) != want {
		t.Errorf("the log is %q, %v, want %q", text, err, want)
	}
}

func TestEndsOfAProcess(t *testing.T) {
	late := errors.New("late")
	for name, c := range map[string]struct {
		end  func(*Process)
		code int
	}{
		"killed":     {(*Process).Kill, -1},
		"terminated": {func(p *Process) { p.Terminate(); p.Terminate() }, -1},
	} {
		t.Run(name, func(t *testing.T) {
			p := run(t, Start, helper(t, "sleep", Spec{}))
			ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, late)
			defer cancel()
			if err := p.Wait(ctx); err != late {
				t.Errorf("Wait = %v, want %v", err, late)
			}
			if err := p.EndedEarly(); err != nil {
				t.Errorf("it has ended: %v", err)
			}
			c.end(p)
			if code := p.ExitCode(); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if err := p.Stop(); err == nil {
				t.Error("Stop of a process that a signal ended is no error")
			}
		})
	}
	if _, err := Start(Spec{Path: filepath.Join(t.TempDir(), "nothing")}); err == nil {
		t.Error("what is not there was started")
	}
}

// The children of a process that is killed do not outlive it.
func TestChildrenDieWithTheirOwner(t *testing.T) {
	reader, writer := io.Pipe()
	p := run(t, Start, helper(t, "own", Spec{Args: []string{filepath.Join(t.TempDir(), "log")}, Stdout: writer}))
	line := make([]byte, 32)
	n, err := reader.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil || syscall.Kill(pid, 0) != nil {
		t.Fatalf("%q is no child: %v", line[:n], err)
	}
	p.Kill()
	for deadline := time.Now().Add(10 * time.Second); !gone(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d is there 10 s after its owner was killed", pid)
		}
	}
}

// gone tells whether a process has ended, reaped or not: whoever adopts orphans may
// be slow to.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestServing(t *testing.T) {
	p := run(t, Serve, helper(t, "serve", Spec{}))
	if err := p.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, port, err := net.SplitHostPort(p.Admin); err != nil || port == "0" {
		t.Errorf("admin server at %q", p.Admin)
	}
	m, err := p.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		labels []string
		series int
		sum    float64
	}{
		{nil, 3, 7},
		{[]string{`pass="first"`}, 2, 3},
		{[]string{`kind="b"`, `pass="first"`}, 1, 2},
		{[]string{`pass="third"`}, 0, 0},
	} {
		if n, sum := len(m.Series("n", c.labels...)), m.Sum("n", c.labels...); n != c.series || sum != c.sum {
			t.Errorf("%v: %d series, sum %v; want %d, %v", c.labels, n, sum, c.series, c.sum)
		}
	}
	if n := m.Sum("other"); n != 0 {
		t.Errorf("the sum of a metric that is not there is %v", n)
	}
	p.Kill()
	if err := p.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "ended early: signal: killed") {
		t.Errorf("Ready after the end = %v", err)
	}
}
