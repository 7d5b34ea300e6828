package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// The faults that a batch may run under.
const (
	calm    = "calm"    // none
	stall   = "stall"   // commits stall up to 3 s: their events are in the binlog, readers see the old rows
	lagging = "lagging" // the replica applies nothing, for up to 30 s
	freeze  = "freeze"  // Redis stands still up to 3 s, with values of 1 MB in flight
	kill    = "kill"    // kill -9 of one of the commands, every few seconds
)

var faults = []string{calm, stall, lagging, freeze, kill}

// inject makes a fault happen again and again until ctx ends, and then leaves
// everything as it was.
func (w *world) inject(ctx context.Context, fault string, rng *rand.Rand) error {
	for fault != calm {
		if err := pause(ctx, time.Second+between(rng, 0, 2*time.Second)); err != nil {
			return nil
		}
		var err error
		switch fault {
		case stall:
			err = w.stallCommits(ctx, min(3*time.Second, between(rng, 100*time.Millisecond, 6*time.Second)))
			_ = pause(ctx, 4*time.Second)
		case lagging:
			err = w.stopReplica(ctx, min(w.outage, between(rng, time.Second, 2*w.outage)))
		case freeze:
			err = w.freezeRedis(ctx, min(3*time.Second, between(rng, 100*time.Millisecond, 6*time.Second)))
		case kill:
			if w.pipe != nil {
				err = w.pipe.killOne(rng)
			}
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("make the fault %q: %w", fault, err)
		}
	}
	return nil
}

func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(rng.Int64N(int64(high-low)))
}

// stallCommits makes the next commits wait for a semi-sync replica that is not
// there. MySQL sends the transactions to the binlog's readers at the start of
// that time, and shows them to others only at its end.
func (w *world) stallCommits(ctx context.Context, d time.Duration) error {
	for _, q := range []string{
		fmt.Sprintf("SET GLOBAL rpl_semi_sync_source_timeout = %d", d/time.Millisecond),
		"SET GLOBAL rpl_semi_sync_source_wait_no_replica = ON",
		"SET GLOBAL rpl_semi_sync_source_enabled = OFF",
		"SET GLOBAL rpl_semi_sync_source_enabled = ON",
	} {
		if _, err := w.sourceDB.ExecContext(ctx, q); err != nil {
			return wrap(q, err)
		}
	}
	return nil
}

// stopReplica makes the replica stand still, and go on after d.
func (w *world) stopReplica(ctx context.Context, d time.Duration) error {
	if _, err := w.replicaDB.ExecContext(ctx, "STOP REPLICA SQL_THREAD"); err != nil {
		return wrap("stop the replica", err)
	}
	_ = pause(ctx, d)
	_, err := w.replicaDB.ExecContext(context.WithoutCancel(ctx), "START REPLICA SQL_THREAD")
	return wrap("start the replica", err)
}

// freezing is a time in which Redis stood still.
type freezing struct{ from, to time.Time }

// freezeRedis makes Redis stand still for d, as a host that swaps does.
func (w *world) freezeRedis(ctx context.Context, d time.Duration) error {
	if err := w.server.Pause(); err != nil {
		return err
	}
	from := time.Now()
	_ = pause(ctx, d)
	w.mu.Lock()
	w.freezes = append(w.freezes, freezing{from, time.Now()})
	w.mu.Unlock()
	return w.server.Resume()
}

// promised says until when a plain reader's SET may run that was read for at
// opened: within fill. Where Redis stands still before that, within fill after it
// goes on, since noticing that is the invalidators' work. A reader that has let
// fill pass by before Redis stood still was late by itself.
func (w *world) promised(opened time.Time) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	until := opened.Add(w.fill)
	for _, f := range w.freezes {
		if after := f.to.Add(w.fill); f.to.After(opened) && f.from.Before(until) && after.After(until) {
			until = after
		}
	}
	return until
}
