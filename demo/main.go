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

// How long the parts of the demonstration take.
const (
	stormOff = 8 * time.Second
	stormOn  = 15 * time.Second
	fill     = time.Second
	stall    = 3 * time.Second
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
	ok, err := run(ctx, *log == "kafka", *sabotage)
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

func run(ctx context.Context, kafka bool, sabotage string) (ok bool, err error) {
	out := newScreen(os.Stdout)
	defer out.end()
	w, err := openWorld(ctx, kafka, out)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, w.close()) }()

	out.title("1. A look-aside cache that nobody invalidates")
	off, err := w.phase(ctx, nil, out)
	if err != nil {
		return false, err
	}
	out.title("2. The same load with doubletap" + sabotaged(sabotage))
	if err := w.shop.clearCache(ctx); err != nil {
		return false, err
	}
	p, err := w.startPipeline(ctx, sabotage)
	if err != nil {
		return false, err
	}
	on, err := w.phase(ctx, p, out)
	if err = errors.Join(err, p.stop()); err != nil {
		return false, err
	}
	return out.verdict(off, on, w.shop.total(), sabotage), nil
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
func (w *world) phase(ctx context.Context, p *processes, out *screen) (stale int, err error) {
	load := w.shop.start(ctx)
	defer load.stop()
	length := stormOff
	if p != nil {
		length = stormOn
	}
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
