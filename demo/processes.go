package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/commands"
)

// processes are the commands of the pipeline, as a user runs them.
type processes struct {
	dir string
	all []*commands.Process
}

func (w *world) startPipeline(ctx context.Context, sabotage string) (*processes, error) {
	log, gate, mode := "embedded: {dir: ./log}", "on", "active"
	second := fmt.Sprintf("fill: %s, readers: [%q]", fill, w.mysql.Addr)
	names := []string{commands.Invalidator}
	if w.kafka != nil {
		log = fmt.Sprintf("kafka: {brokers: [%q], topic: doubletap.shop, partitions: 4}", w.kafka.Addr)
		names = []string{commands.Tailer, commands.Invalidator, commands.Invalidator}
	}
	switch sabotage {
	case "gate":
		gate = "off"
		// Neither must anything else wait for the commit to be visible.
		second = fmt.Sprintf("fill: %[1]s, fallback: %[1]s", fill)
	case "delete":
		mode = "observe"
	}
	files := map[string]string{
		"keys.yaml": keysYAML,
		"doubletap.yaml": fmt.Sprintf(`source: {name: shop, addr: %q, user: root, start: current, gate: %s}
log: {%s}
redis: {addrs: [%q]}
keys: keys.yaml
second_delete: {%s}
mode: %s
`, w.mysql.Addr, gate, log, w.server.Addr, second, mode),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	p := &processes{dir: w.dir}
	for _, name := range names {
		if err := p.start(name); err != nil {
			return nil, errors.Join(err, p.stop())
		}
	}
	if err := p.ready(ctx); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *processes) start(name string) error {
	pr, err := commands.Serve(commands.Spec{Path: filepath.Join(p.dir, name), Args: []string{"-config", filepath.Join(p.dir, "doubletap.yaml")}})
	if err == nil {
		p.all = append(p.all, pr)
	}
	return err
}

// ready waits until every process is, and the first start's sweep is done twice.
func (p *processes) ready(ctx context.Context) error {
	for _, pr := range p.all {
		if err := pr.Ready(ctx); err != nil {
			return err
		}
	}
	return p.pollAll(ctx, func(n numbers) bool { return n.sweeps >= 2 })
}

func (p *processes) pollAll(ctx context.Context, cond func(numbers) bool) error {
	return p.all[len(p.all)-1].Poll(ctx, func() bool { return cond(p.read(ctx)) })
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
		if m, err := pr.Metrics(ctx); err == nil {
			n.add(m)
		}
	}
	return n
}

func (n *numbers) add(m commands.Metrics) {
	n.published += m.Sum("doubletap_published_transactions_total")
	n.events += m.Sum("doubletap_published_events_total")
	n.first += m.Sum("doubletap_deleted_keys_total", `pass="first"`)
	n.second += m.Sum("doubletap_deleted_keys_total", `pass="second"`)
	n.firstEvents += m.Sum("doubletap_deletes_total", `pass="first"`)
	n.secondEvents += m.Sum("doubletap_deletes_total", `pass="second"`)
	n.skipped += m.Sum("doubletap_second_deletes_skipped_total")
	n.sweeps += m.Sum("doubletap_sweeps_total")
	for _, s := range m.Series("doubletap_commit_to_delete_seconds", `pass="first"`) {
		for _, b := range s.GetHistogram().GetBucket() {
			n.latency[b.GetUpperBound()] += float64(b.GetCumulativeCount())
		}
	}
}

// stop asks the processes to end, all at the same time.
func (p *processes) stop() error {
	var errs []error
	for _, pr := range p.all {
		pr.Terminate()
	}
	for _, pr := range p.all {
		errs = append(errs, pr.Stop())
	}
	return errors.Join(errs...)
}
