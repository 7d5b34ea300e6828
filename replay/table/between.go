package table

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// between is a walk, and then the binlog of its time. It takes what the source
// shows before the walk is planned (low), and what it has written after the last
// chunk (high); what is in high and not in low was committed since the plan. Not
// since the first chunk: the plan fixes the ends of the walk, and between the two
// somebody is asked whether to go on, and a process may be killed for days.
//
// Netflix's DBLog takes such marks around each chunk, to tell rows that it must
// leave out of the chunk, since a newer change of them is in the log: its output
// is rows in their order. Deletes commute and repeat without harm. So nothing has
// to be left out, and the union of all windows does what each of them would
// (docs/decisions/replay-table.md).
type between struct {
	deps  Deps
	first replay.Source
	scope pipeline.Scope // of the table
	low   **string       // in the spec of first, which its plan keeps
}

// betweenCursor is what its replay.Cursor holds. High is empty during the walk.
type betweenCursor struct {
	Low    string        `json:"low"`
	Walk   replay.Cursor `json:"walk,omitempty"`
	High   string        `json:"high,omitempty"`
	Binlog replay.Cursor `json:"binlog,omitempty"`
	Swept  bool          `json:"swept,omitempty"` // a part of the window was gone
}

// walked is the share of the first phase, as far as anybody can know.
const walked = 0.95

// Plan implements replay.Source.
func (b *between) Plan(ctx context.Context) (replay.Plan, error) {
	view, err := b.deps.view(ctx)
	if err != nil {
		return replay.Plan{}, err
	}
	low := view.Shown.String()
	*b.low = &low
	p, err := b.first.Plan(ctx)
	if err == nil {
		p.What = append(p.What, "then the binlog, from this plan to the end of that")
	}
	return p, err
}

// Read implements replay.Source.
func (b *between) Read(ctx context.Context, from replay.Cursor, fn func(context.Context, replay.Chunk) error) error {
	var at betweenCursor
	switch {
	case from != "":
		if err := json.Unmarshal([]byte(from), &at); err != nil {
			return fmt.Errorf("go on with a walk from %q: %w", from, err)
		}
	case *b.low == nil:
		return errors.New("read a table and the binlog of that time: it was not planned")
	default:
		at.Low = **b.low
	}
	if at.High == "" {
		err := b.first.Read(ctx, at.Walk, func(ctx context.Context, c replay.Chunk) error {
			at.Walk = c.Next
			if c.Done > 0 {
				c.Done *= walked
			}
			return pass(ctx, at, c, fn)
		})
		if err != nil {
			return err
		}
		high, err := b.deps.written(ctx)
		if err != nil {
			return err
		}
		at.High = high.String()
	}
	if some, err := more(at.Low, at.High); err != nil || !some {
		return err
	}
	return b.binlog(ctx, at, fn)
}

// binlog replays the window. What of it is gone is made up for by invalidating the
// whole table: it has only this table to answer for.
func (b *between) binlog(ctx context.Context, at betweenCursor, fn func(context.Context, replay.Chunk) error) error {
	src, err := b.deps.Binlog(at.Low, at.High)
	if err != nil {
		return fmt.Errorf("read the binlog of the time of the walk, %s to %s: %w", at.Low, at.High, err)
	}
	plan, err := src.Plan(ctx)
	if err == nil && len(plan.Warnings) > 0 {
		if err := b.sweep(ctx, &at, strings.Join(plan.Warnings, " "), fn); err != nil {
			return err
		}
	}
	var failed error
	if err == nil {
		err = src.Read(ctx, at.Binlog, func(ctx context.Context, c replay.Chunk) error {
			at.Binlog = c.Next
			if c.Done >= 0 {
				c.Done = walked + c.Done*(1-walked)
			}
			failed = pass(ctx, at, c, fn)
			return failed
		})
	}
	gap, isGap := errors.AsType[*pipeline.GapError](err)
	switch {
	case failed != nil || err == nil:
		return err
	case isGap:
		return b.sweep(ctx, &at, gap.Reason, fn)
	}
	return fmt.Errorf("read the binlog of the time of the walk, %s to %s: %w", at.Low, at.High, err)
}

// sweep invalidates the table, once.
func (b *between) sweep(ctx context.Context, at *betweenCursor, reason string, fn func(context.Context, replay.Chunk) error) error {
	if at.Swept {
		return nil
	}
	at.Swept = true
	return pass(ctx, *at, replay.Chunk{Done: walked, Events: []pipeline.Event{{
		Version: pipeline.Version, Kind: pipeline.KindInvalidate, Source: b.deps.Source, GTID: at.High, Schema: b.deps.Schema.Hash(),
		Scopes: []pipeline.Scope{b.scope}, Reason: "the binlog of the time of the walk: " + reason,
	}}}, fn)
}

func pass(ctx context.Context, at betweenCursor, c replay.Chunk, fn func(context.Context, replay.Chunk) error) error {
	next, err := json.Marshal(at)
	if err != nil {
		return err
	}
	c.Next = replay.Cursor(next)
	return fn(ctx, c)
}

// more says whether high has a transaction that low has not.
func more(low, high string) (bool, error) {
	l, err := gtid.Parse(low)
	if err != nil {
		return false, err
	}
	h, err := gtid.Parse(high)
	return !l.HasAll(h), err
}
