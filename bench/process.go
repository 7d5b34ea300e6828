package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/commands"
)

func (w *world) start(name string, r run) (*commands.Process, error) {
	return commands.Serve(commands.Spec{Path: filepath.Join(w.dir, name), Args: []string{"-config", r.file}})
}

// numbers are what a process's metrics say.
type numbers struct {
	rows, events  float64 // published
	first, second float64 // events whose deletes were acknowledged
	skipped       float64 // events whose first delete was late enough
	owned         float64
}

func numbersOf(m commands.Metrics) numbers {
	return numbers{
		rows: m.Sum("doubletap_published_rows_total"), events: m.Sum("doubletap_published_events_total"),
		first: m.Sum("doubletap_deletes_total", `pass="first"`), second: m.Sum("doubletap_deletes_total", `pass="second"`),
		skipped: m.Sum("doubletap_second_deletes_skipped_total"), owned: m.Sum("doubletap_partitions_owned"),
	}
}

func (n numbers) plus(m numbers) numbers {
	return numbers{
		rows: n.rows + m.rows, events: n.events + m.events, first: n.first + m.first,
		second: n.second + m.second, skipped: n.skipped + m.skipped, owned: n.owned + m.owned,
	}
}

// group is processes that work on one thing.
type group []*commands.Process

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
			if err := p.EndedEarly(); err != nil {
				return nil, err
			}
		}
		if time.Since(moved) > time.Minute {
			return nil, fmt.Errorf("%s made no progress for a minute: %+v\n%s", g[0].Name(), s.numbers, g[0].LogTail())
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
		m, err := p.Metrics(ctx)
		if err != nil {
			return s, err
		}
		cpu, err := cpuTime(p.Pid())
		if err != nil {
			return s, err
		}
		s.numbers, s.cpu = s.plus(numbersOf(m)), s.cpu+cpu
	}
	s.at = time.Now()
	return s, nil
}

func (g group) peakRSS() (total float64, err error) {
	for _, p := range g {
		n, err := peakRSS(p.Pid())
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
		errs = append(errs, p.Stop())
	}
	return errors.Join(errs...)
}
