package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/commands"
)

// process is one run of a command.
type process struct {
	*commands.Process
	t    *testing.T
	last bool // not killed before the end of the test
}

// secret is the password of every server in these tests; no output may hold it.
const secret = `p"w: 'x#{1}$y`

// passwords are for the environment of the commands.
var passwords = []string{"MYSQL_PASSWORD=" + secret, "REDIS_PASSWORD=" + secret}

// start runs a command by a configuration file; its output goes to a file beside it. The process is killed when the test
// ends.
func start(t *testing.T, name, config string, run func(commands.Spec) (*commands.Process, error)) *process {
	t.Helper()
	path := command(t, name)
	log, err := os.CreateTemp(filepath.Dir(config), name+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := run(commands.Spec{Path: path, Args: []string{"-config", config}, Env: passwords, Log: log.Name()})
	if err != nil {
		t.Fatal(err)
	}
	x := &process{Process: p, t: t}
	t.Cleanup(func() {
		x.last = x.running() || x.last
		x.Kill()
		x.review()
	})
	return x
}

// review looks at the output once the process has ended.
func (p *process) review() {
	text := p.Log()
	if strings.Contains(strings.ReplaceAll(text, `\"`, `"`), secret) {
		p.t.Errorf("%s printed a password", p.Name())
	}
	if strings.Contains(text, "WARNING: DATA RACE") || strings.Contains(text, "panic: ") {
		p.t.Errorf("%s: a data race or a panic:\n%s", p.Name(), text)
	} else if p.t.Failed() {
		lines := 5
		if p.last {
			lines = 40
		}
		p.t.Logf("%s (exit code %d) printed at the end:\n%s", p.Name(), p.ExitCode(), tail(text, lines))
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(all) > lines {
		all = append([]string{fmt.Sprintf("... %d lines before", len(all)-lines)}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "\n")
}

// stop sends SIGTERM and returns the exit code.
func (p *process) stop() int {
	p.t.Helper()
	p.last = true
	p.Terminate()
	return p.endsWithin(30 * time.Second)
}

// endsWithin returns the exit code; it fails the test when the process does not end in time.
func (p *process) endsWithin(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.Ended():
		return p.ExitCode()
	case <-time.After(limit):
		p.t.Fatalf("%s did not end within %v:\n%s", p.Name(), limit, tail(p.Log(), 40))
		return -1
	}
}

func (p *process) running() bool { return p.EndedEarly() == nil }

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
	if err := p.Ready(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

// metric returns the sum of a metric's series that have all the labels, such as pass="second".
func (p *process) metric(name string, labels ...string) (sum float64, err error) {
	m, err := p.Metrics(p.t.Context())
	if err == nil && len(m.Series(name, labels...)) == 0 {
		err = fmt.Errorf("%s has no metric %s %v", p.Name(), name, labels)
	}
	return m.Sum(name, labels...), err
}
