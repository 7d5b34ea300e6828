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
	"strconv"
	"strings"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// processes are the commands of the pipeline, as a user runs them.
type processes struct {
	dir string
	all []*process
}

type process struct {
	name  string
	admin string
	cmd   *exec.Cmd
	ended chan error
}

func (w *world) startPipeline(ctx context.Context, sabotage string) (*processes, error) {
	log, gate, mode := "embedded: {dir: ./log}", "on", "active"
	names := []string{"invalidator"}
	if w.kafka != nil {
		log = fmt.Sprintf("kafka: {brokers: [%q], topic: doubletap.shop, partitions: 4}", w.kafka.Addr)
		names = []string{"binlog-tailer", "invalidator", "invalidator"}
	}
	switch sabotage {
	case "gate":
		gate = "off"
	case "delete":
		mode = "observe"
	}
	files := map[string]string{
		"keys.yaml": keysYAML,
		"doubletap.yaml": fmt.Sprintf(`source: {name: shop, addr: %q, user: root, start: current, gate: %s}
log: {%s}
redis: {addrs: [%q]}
keys: keys.yaml
second_delete: {fill: %s}
mode: %s
`, w.mysql.Addr, gate, log, w.server.Addr, fill, mode),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	p := &processes{dir: w.dir}
	for _, name := range names {
		if err := p.start(ctx, name); err != nil {
			return nil, errors.Join(err, p.stop())
		}
	}
	if err := p.ready(ctx); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *processes) start(ctx context.Context, name string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	admin := l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	logFile, err := os.Create(filepath.Join(p.dir, fmt.Sprintf("%s-%d.log", name, len(p.all))))
	if err != nil {
		return err
	}
	defer logFile.Close()
	cmd := exec.Command(filepath.Join(p.dir, name), "-config", filepath.Join(p.dir, "doubletap.yaml"), "-admin", admin)
	cmd.Stderr = logFile
	// Its own group: an interrupt from the keyboard stops the demo, which then
	// stops the commands in order. They do not outlive the demo.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	pr := &process{name: logFile.Name(), admin: admin, cmd: cmd, ended: make(chan error, 1)}
	go func() { pr.ended <- cmd.Wait() }()
	p.all = append(p.all, pr)
	return nil
}

// ready waits until every process is, and the first start's sweep is done twice.
func (p *processes) ready(ctx context.Context) error {
	for _, pr := range p.all {
		if err := pr.poll(ctx, func() bool {
			resp, err := http.Get("http://" + pr.admin + "/readyz")
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		}); err != nil {
			return err
		}
	}
	return p.pollAll(ctx, func(n numbers) bool { return n.sweeps >= 2 })
}

// poll asks every 50 ms until cond holds, the process ends, or a minute is over.
func (pr *process) poll(ctx context.Context, cond func() bool) error {
	limit := time.After(time.Minute)
	for !cond() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-pr.ended:
			pr.ended <- err
			return fmt.Errorf("a command ended early: %w\n%s", err, tail(pr.name))
		case <-limit:
			return fmt.Errorf("a command made no progress for a minute\n%s", tail(pr.name))
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

func (p *processes) pollAll(ctx context.Context, cond func(numbers) bool) error {
	return p.all[len(p.all)-1].poll(ctx, func() bool { return cond(p.read(ctx)) })
}

// caughtUp waits until both passes have handled every event in the log, and the
// tailer has published every transaction: nothing moves any more for two fills.
func (p *processes) caughtUp(ctx context.Context) error {
	last, since := p.read(ctx), time.Now()
	return p.pollAll(ctx, func(n numbers) bool {
		if n.published != last.published || n.events != last.events || n.eventsDone() != last.eventsDone() {
			last, since = n, time.Now()
		}
		return n.eventsDone() >= 2*n.events && time.Since(since) > 2*fill
	})
}

// numbers are what the processes' metrics say, all together.
type numbers struct {
	published     float64 // transactions
	events        float64 // records in the log
	first, second float64 // keys
	firstEvents   float64
	secondEvents  float64
	skipped       float64
	sweeps        float64
	latency       map[float64]float64 // first deletes, cumulative by upper bound
}

func (n numbers) eventsDone() float64 { return n.firstEvents + n.secondEvents + n.skipped }

// read asks every process; what does not answer counts nothing. A nil p, no
// pipeline, is all zero.
func (p *processes) read(ctx context.Context) numbers {
	n := numbers{latency: map[float64]float64{}}
	if p == nil {
		return n
	}
	for _, pr := range p.all {
		families, err := pr.metrics(ctx)
		if err != nil {
			continue
		}
		n.add(families)
	}
	return n
}

func (pr *process) metrics(ctx context.Context) (map[string]*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+pr.admin+"/metrics", nil)
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

func (n *numbers) add(families map[string]*dto.MetricFamily) {
	sum := func(name, pass string) (total float64) {
		for _, m := range families["doubletap_"+name].GetMetric() {
			if pass == "" || label(m, "pass") == pass {
				total += m.GetCounter().GetValue()
			}
		}
		return total
	}
	n.published += sum("published_transactions_total", "")
	n.events += sum("published_events_total", "")
	n.first += sum("deleted_keys_total", "first")
	n.second += sum("deleted_keys_total", "second")
	n.firstEvents += sum("deletes_total", "first")
	n.secondEvents += sum("deletes_total", "second")
	n.skipped += sum("second_deletes_skipped_total", "")
	n.sweeps += sum("sweeps_total", "")
	for _, m := range families["doubletap_commit_to_delete_seconds"].GetMetric() {
		if label(m, "pass") == "first" {
			for _, b := range m.GetHistogram().GetBucket() {
				n.latency[b.GetUpperBound()] += float64(b.GetCumulativeCount())
			}
		}
	}
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// stop asks the processes to end, and kills those that do not within 10 s.
func (p *processes) stop() error {
	var errs []error
	for _, pr := range p.all {
		_ = pr.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	}
	for _, pr := range p.all {
		select {
		case err := <-pr.ended:
			if err != nil {
				errs = append(errs, fmt.Errorf("a command failed: %w\n%s", err, tail(pr.name)))
			}
		case <-time.After(10 * time.Second):
			_ = pr.cmd.Process.Kill()
			errs = append(errs, fmt.Errorf("a command did not stop when asked: pid %s\n%s", strconv.Itoa(pr.cmd.Process.Pid), tail(pr.name)))
		}
	}
	return errors.Join(errs...)
}

// tail returns the end of a log file.
func tail(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
