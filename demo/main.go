// Command demo shows the whole pipeline at work on real servers that it starts
// and stops itself: first a cache that nobody invalidates, then the same load
// with doubletap. It ends with a verdict, and its exit code says the same:
// 0 only if stale keys were found without the pipeline, and none with it.
//
// -sabotage takes a part away, and then the verdict must be red: a
// demonstration that cannot fail shows nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// show is what a demonstration is made of.
type show struct {
	kafka    bool
	sabotage string        // "", "gate" or "delete"
	off, on  time.Duration // how long the load lasts without and with doubletap
}

const (
	fill  = time.Second     // second_delete.fill
	stall = 3 * time.Second // of the commits, near the end of each part
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := flag.String("log", "embedded", "where events are kept: embedded or kafka")
	sabotage := flag.String("sabotage", "", "take a part away: gate (publish before the commit is visible) or delete (delete nothing)")
	flag.Parse()
	if !slices.Contains([]string{"embedded", "kafka"}, *log) || !slices.Contains([]string{"", "gate", "delete"}, *sabotage) {
		fmt.Fprintln(os.Stderr, "demo: LOG is embedded or kafka, SABOTAGE is gate, delete, or empty")
		os.Exit(2)
	}
	s := show{kafka: *log == "kafka", sabotage: *sabotage, off: 8 * time.Second, on: 15 * time.Second}
	ok, err := s.run(ctx, newScreen(os.Stdout))
	switch {
	case err != nil && ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "interrupted; everything was stopped")
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	case !ok:
		os.Exit(1)
	}
}

// run reports whether the pipeline kept its promise, and whether the load could
// have shown that it did not.
func (s show) run(ctx context.Context, out *screen) (ok bool, err error) {
	defer out.end()
	w, err := openWorld(ctx, s.kafka, out)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, w.close()) }()

	out.title("1. A look-aside cache that nobody invalidates")
	off, err := w.phase(ctx, s.off, nil, out)
	if err != nil {
		return false, err
	}
	out.title("2. The same load with doubletap" + sabotaged(s.sabotage))
	if err := w.shop.clearCache(ctx); err != nil {
		return false, err
	}
	p, err := w.startPipeline(ctx, s.sabotage)
	if err != nil {
		return false, err
	}
	on, err := w.phase(ctx, s.on, p, out)
	if err = errors.Join(err, p.stop()); err != nil {
		return false, err
	}
	return out.verdict(off, on, w.shop.total(), s.sabotage), nil
}

func sabotaged(part string) string {
	switch part {
	case "gate":
		return ", its visibility gate taken away"
	case "delete":
		return ", its deletes taken away"
	}
	return ""
}

// phase drives the load, shows it, and returns how many keys are stale once
// everything has come to rest.
func (w *world) phase(ctx context.Context, length time.Duration, p *processes, out *screen) (stale int, err error) {
	load := w.shop.start(ctx)
	defer load.stop()
	out.header()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	began := time.Now()
	stalled := false
	for time.Since(began) < length {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
		note := ""
		if left := length - time.Since(began); !stalled && left <= stall+2*time.Second {
			// Near the end, so that no later write of the same key hides what the
			// stall left behind.
			stalled = true
			note = "commits stall 3 s: their events are in the binlog, readers see the old rows"
			if err := w.stallCommits(ctx); err != nil {
				return 0, err
			}
			load.lastWrites()
		}
		out.line(load, p.read(ctx), note)
	}
	if err := load.finishWrites(ctx); err != nil {
		return 0, err
	}
	if p != nil {
		// The readers go on until both passes have caught up: they are what could
		// still put an old value back.
		if err := p.caughtUp(ctx); err != nil {
			return 0, err
		}
	}
	load.stop()
	if err := load.err(); err != nil {
		return 0, err
	}
	out.line(load, p.read(ctx), "all at rest")
	return w.shop.stale(ctx)
}
