package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	tailer      = "binlog-tailer"
	invalidator = "invalidator"
)

// process is one command, run as a user runs it.
type process struct {
	name  string
	admin string
	log   string
	cmd   *exec.Cmd
	began time.Time
	ended chan struct{}
	err   error // how it ended
}

func (w *world) start(ctx context.Context, name string, r run) (*process, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	admin := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	logFile, err := os.CreateTemp(w.dir, name+"-*.log")
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	cmd := exec.Command(filepath.Join(w.dir, name), "-config", r.file, "-admin", admin)
	cmd.Stderr = logFile
	// Its own group: an interrupt from the keyboard stops bench, which then stops
	// the commands. They do not outlive it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{name: name, admin: admin, log: logFile.Name(), cmd: cmd, began: time.Now(), ended: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// stop asks the process to end, and kills it if it does not within 15 s.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.ended:
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not stop when asked\n%s", p.name, lastLines(p.log))
	}
	if p.err != nil {
		return fmt.Errorf("%s failed: %w\n%s", p.name, p.err, lastLines(p.log))
	}
	return nil
}

// numbers are what a process's metrics say.
type numbers struct {
	rows, events  float64 // published
	first, second float64 // events whose deletes were acknowledged
	skipped       float64 // events whose first delete was late enough
	owned         float64
}

func (n numbers) plus(m numbers) numbers {
	return numbers{
		rows: n.rows + m.rows, events: n.events + m.events, first: n.first + m.first,
		second: n.second + m.second, skipped: n.skipped + m.skipped, owned: n.owned + m.owned,
	}
}

// group is processes that work on one thing.
type group []*process

// sample is what a group's processes had done together at a time.
type sample struct {
	at  time.Time
	cpu float64 // seconds
	numbers
}

// poll takes a sample every 50 ms until cond holds, and returns all of them.
// More often would be seen in the figures.
func (g group) poll(ctx context.Context, cond func(numbers) bool) (all []sample, err error) {
	moved := time.Now()
	for {
		s, err := g.sample(ctx)
		if err == nil {
			if len(all) > 0 && s.numbers != all[len(all)-1].numbers {
				moved = time.Now()
			}
			if all = append(all, s); cond(s.numbers) {
				return all, nil
			}
		}
		for _, p := range g {
			select {
			case <-p.ended:
				return nil, fmt.Errorf("%s ended early: %w\n%s", p.name, p.err, lastLines(p.log))
			default:
			}
		}
		if time.Since(moved) > time.Minute {
			return nil, fmt.Errorf("%s made no progress for a minute: %+v\n%s", g[0].name, s.numbers, lastLines(g[0].log))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (g group) sample(ctx context.Context) (s sample, err error) {
	for _, p := range g {
		n, err := p.read(ctx)
		if err != nil {
			return s, err
		}
		cpu, err := p.cpu()
		if err != nil {
			return s, err
		}
		s.numbers, s.cpu = s.plus(n), s.cpu+cpu
	}
	s.at = time.Now()
	return s, nil
}

func (g group) peakRSS() (total float64, err error) {
	for _, p := range g {
		n, err := peakRSS(p.cmd.Process.Pid)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (g group) stop() error {
	var errs []error
	for _, p := range g {
		errs = append(errs, p.stop())
	}
	return errors.Join(errs...)
}

// ready waits until the process says that it is.
func (p *process) ready(ctx context.Context) error {
	_, err := group{p}.poll(ctx, func(numbers) bool {
		resp, err := p.get(ctx, "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return err
}

func (p *process) get(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+path, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

// client asks for plain text: compressing it would count as the program's work.
var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableCompression: true}}

func (p *process) read(ctx context.Context) (n numbers, err error) {
	resp, err := p.get(ctx, "/metrics")
	if err != nil {
		return n, err
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return n, fmt.Errorf("read the metrics of %s: %w", p.name, err)
	}
	value := func(name, pass string) (total float64) {
		for _, m := range families["doubletap_"+name].GetMetric() {
			if pass == "" || label(m, "pass") == pass {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		return total
	}
	return numbers{
		rows: value("published_rows_total", ""), events: value("published_events_total", ""),
		first: value("deletes_total", "first"), second: value("deletes_total", "second"),
		skipped: value("second_deletes_skipped_total", ""), owned: value("partitions_owned", ""),
	}, nil
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

func lastLines(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
