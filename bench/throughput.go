package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/commands"
)

// backlogFill is short, so that the second pass runs beside the first one: the
// rate is then one that can be kept up. It is part of the time that is measured.
const backlogFill = "100ms"

// measureLog measures all that runs with one kind of log.
func (w *world) measureLog(ctx context.Context, log string, b backlog, latency time.Duration) (results []result, err error) {
	if log == logKafka {
		results, err = w.kafkaBacklog(ctx, b)
	} else {
		results, err = w.embeddedBacklog(ctx, b)
	}
	if err != nil || latency == 0 {
		return results, err
	}
	r, err := w.latency(ctx, log, latency)
	return append(results, r), err
}

// started is what a command needs before it can do anything.
type started struct {
	took time.Duration
	cpu  float64
}

// startup runs a command with nothing to do until it could do something.
func (w *world) startup(ctx context.Context, name string, r run, cond func(numbers) bool) (s started, err error) {
	p, err := w.start(name, r)
	if err != nil {
		return s, err
	}
	g := group{p}
	defer func() { err = errors.Join(err, g.stop()) }()
	if err := p.Ready(ctx); err != nil {
		return s, err
	}
	samples, err := g.poll(ctx, cond)
	if err != nil {
		return s, err
	}
	last := samples[len(samples)-1]
	return started{last.at.Sub(p.Began), last.cpu}, nil
}

// embeddedBacklog measures the whole pipeline in one process.
func (w *world) embeddedBacklog(ctx context.Context, b backlog) (results []result, err error) {
	w.say("embedded log: the start alone, then the backlog")
	idle, err := w.newRun(logEmbedded, "current", backlogFill)
	if err != nil {
		return nil, err
	}
	su, err := w.startup(ctx, commands.Invalidator, idle, func(n numbers) bool { return n.first >= 1 })
	if err != nil {
		return nil, err
	}
	r, err := w.newRun(logEmbedded, b.start, backlogFill)
	if err != nil {
		return nil, err
	}
	p, err := w.start(commands.Invalidator, r)
	if err != nil {
		return nil, err
	}
	return w.pipeline(ctx, "embedded, the whole pipeline", group{p}, p.Began, su, b)
}

func owned(n numbers) bool { return n.owned == partitions }

// newTopic is newRun for Kafka, its topics made: making them is not measured.
func (w *world) newTopic(ctx context.Context, start string) (run, error) {
	r, err := w.newRun(logKafka, start, backlogFill)
	if err != nil {
		return r, err
	}
	_, err = w.startup(ctx, commands.Invalidator, r, owned)
	return r, err
}

// kafkaBacklog measures the tailer alone, the invalidator alone on what the
// tailer has left in the topic, and both at once.
func (w *world) kafkaBacklog(ctx context.Context, b backlog) (results []result, err error) {
	w.say("kafka: the starts alone, then the backlog")
	idle, err := w.newTopic(ctx, "current")
	if err != nil {
		return nil, err
	}
	tailerUp, err := w.startup(ctx, commands.Tailer, idle, func(numbers) bool { return true })
	if err != nil {
		return nil, err
	}
	invalidatorUp, err := w.startup(ctx, commands.Invalidator, idle, owned)
	if err != nil {
		return nil, err
	}
	r, err := w.newTopic(ctx, b.start)
	if err != nil {
		return nil, err
	}
	tailed, events, err := w.tailerAlone(ctx, r, tailerUp, b)
	if err != nil {
		return nil, err
	}
	invalidated, err := w.invalidatorAlone(ctx, r, invalidatorUp, events, b)
	if err != nil {
		return nil, err
	}
	both, err := w.bothAtOnce(ctx, tailerUp, b)
	return append([]result{tailed, invalidated}, both...), err
}

func (w *world) bothAtOnce(ctx context.Context, su started, b backlog) ([]result, error) {
	r, err := w.newTopic(ctx, b.start)
	if err != nil {
		return nil, err
	}
	inv, err := w.start(commands.Invalidator, r)
	if err != nil {
		return nil, err
	}
	waiting, err := group{inv}.poll(ctx, owned)
	if err != nil {
		return nil, errors.Join(err, inv.Stop())
	}
	tail, err := w.start(commands.Tailer, r)
	if err != nil {
		return nil, errors.Join(err, inv.Stop())
	}
	su.cpu += waiting[len(waiting)-1].cpu
	return w.pipeline(ctx, "kafka, tailer and invalidator at once", group{tail, inv}, tail.Began, su, b)
}

// pipeline waits until a running pipeline has made all deletes twice, stops it,
// and returns a result for the first deletes and one for both.
func (w *world) pipeline(ctx context.Context, name string, g group, began time.Time, su started, b backlog) (results []result, err error) {
	defer func() { err = errors.Join(err, g.stop()) }()
	samples, err := g.poll(ctx, func(n numbers) bool {
		// One event more than the rows made: the sweep of the first start.
		return n.rows >= float64(b.rows) && n.first > n.events && n.second+n.skipped > n.events
	})
	if err != nil {
		return nil, err
	}
	rss, err := g.peakRSS()
	if err != nil {
		return nil, err
	}
	last := samples[len(samples)-1]
	first := last
	for i := len(samples) - 1; i >= 0 && samples[i].first == last.first; i-- {
		first = samples[i]
	}
	if last.skipped > 0 {
		w.say("  %.0f of %.0f second deletes were not needed", last.skipped, last.events)
	}
	for _, at := range []struct {
		what string
		sample
	}{{", first deletes done", first}, {", both deletes done", last}} {
		results = append(results, w.result(name+at.what, b, at.at.Sub(began)-su.took, at.cpu-su.cpu, rss, su))
	}
	return results, nil
}

func (w *world) tailerAlone(ctx context.Context, r run, su started, b backlog) (res result, events float64, err error) {
	p, err := w.start(commands.Tailer, r)
	if err != nil {
		return res, 0, err
	}
	g := group{p}
	defer func() { err = errors.Join(err, g.stop()) }()
	samples, err := g.poll(ctx, func(n numbers) bool { return n.rows >= float64(b.rows) })
	if err != nil {
		return res, 0, err
	}
	rss, err := g.peakRSS()
	last := samples[len(samples)-1]
	return w.result("kafka, tailer alone, events durable", b, last.at.Sub(p.Began)-su.took, last.cpu-su.cpu, rss, su), last.events + 1, err
}

func (w *world) invalidatorAlone(ctx context.Context, r run, su started, events float64, b backlog) (res result, err error) {
	p, err := w.start(commands.Invalidator, r)
	if err != nil {
		return res, err
	}
	g := group{p}
	defer func() { err = errors.Join(err, g.stop()) }()
	samples, err := g.poll(ctx, func(n numbers) bool { return n.first >= events && n.second+n.skipped >= events })
	if err != nil {
		return res, err
	}
	rss, err := g.peakRSS()
	last := samples[len(samples)-1]
	return w.result("kafka, invalidator alone, both deletes done", b, last.at.Sub(p.Began)-su.took, last.cpu-su.cpu, rss, su), err
}

func (w *world) result(name string, b backlog, took time.Duration, cpu, rss float64, su started) result {
	w.say("  %s: %.2f s, after a start of %.2f s", name, took.Seconds(), su.took.Seconds())
	if took < 500*time.Millisecond {
		w.say("  that is too short to be exact: use more -rows")
		took = max(took, time.Millisecond) // this start may have been quicker than the one that is taken off
	}
	return result{
		Program: name, RowsPerSecond: float64(b.rows) / took.Seconds(), CPUPerMillion: cpu / (float64(b.rows) / 1e6),
		PeakRSS: rss, Startup: su.took.Seconds(),
	}
}

// latency measures a pipeline that has nothing to catch up with, under a steady
// load.
func (w *world) latency(ctx context.Context, log string, length time.Duration) (res result, err error) {
	w.say("%s: latency at %d commits/s, for %v", log, commitsPerSecond, length)
	r, err := w.newRun(log, "current", "1s")
	if err != nil {
		return res, err
	}
	g, err := w.startAll(ctx, r)
	defer func() { err = errors.Join(err, g.stop()) }()
	if err != nil {
		return res, err
	}
	q, err := w.commitLoad(ctx, steady(length))
	if err != nil {
		return res, fmt.Errorf("measure the latency: %w", err)
	}
	rss, err := g.peakRSS()
	w.say("  p50 %.1f ms, p99 %.1f ms, max %.1f ms", q.P50, q.P99, q.Max)
	return result{Program: fmt.Sprintf("%s, at %d commits/s", log, commitsPerSecond), PeakRSS: rss, Latency: &q}, err
}

// startAll starts the whole pipeline and waits until the first start's sweep is
// done. The group must be stopped, also after an error.
func (w *world) startAll(ctx context.Context, r run) (g group, err error) {
	names := []string{commands.Invalidator}
	if r.log == logKafka {
		names = []string{commands.Invalidator, commands.Tailer}
	}
	for _, name := range names {
		p, err := w.start(name, r)
		if err != nil {
			return g, err
		}
		g = append(g, p)
	}
	for _, p := range g {
		if err := p.Ready(ctx); err != nil {
			return g, err
		}
	}
	_, err = g.poll(ctx, func(n numbers) bool { return n.second+n.skipped >= 1 })
	return g, err
}
