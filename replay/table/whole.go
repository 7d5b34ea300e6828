package table

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// whole deletes every key that depends on a table. It asks nothing of the table,
// which may be gone.
type whole struct {
	deps Deps
	spec Spec
}

// Plan implements replay.Source.
func (w *whole) Plan(context.Context) (p replay.Plan, err error) {
	t, _, err := w.deps.rulesOf(w.spec.DB, w.spec.Table)
	if err != nil {
		return p, err
	}
	patterns := []string{}
	if t != nil {
		for _, r := range t.Rules() {
			patterns = append(patterns, fmt.Sprintf("%s (rule %s)", r.Pattern(), r.Name()))
		}
	}
	p.What = []string{fmt.Sprintf("every key that depends on %s.%s, found by SCAN in the cache: %s", w.spec.DB, w.spec.Table, strings.Join(patterns, ", "))}
	p.Rows = -1
	p.Fixed, err = json.Marshal(w.spec)
	return p, err
}

// Read implements replay.Source.
func (w *whole) Read(ctx context.Context, from replay.Cursor, fn func(context.Context, replay.Chunk) error) error {
	if from != "" {
		return nil
	}
	view, err := w.deps.view(ctx)
	if err != nil {
		return err
	}
	return fn(ctx, replay.Chunk{Next: "done", Done: 1, Events: []pipeline.Event{{
		Version: pipeline.Version, Kind: pipeline.KindInvalidate, Source: w.deps.Source, GTID: view.Written.String(), Schema: w.deps.Schema.Hash(),
		Scopes: []pipeline.Scope{pipeline.TableScope(w.spec.DB, w.spec.Table)}, Reason: "replay of the whole table",
	}}})
}

// ask asks the source once what it shows.
func (d *Deps) ask(ctx context.Context) (pipeline.View, error) {
	v, err := d.View(ctx)
	if err != nil {
		err = fmt.Errorf("ask the source for its transactions: %w", lasting(err))
	}
	return v, err
}

// view asks the source what it shows until it says.
func (d *Deps) view(ctx context.Context) (v pipeline.View, err error) {
	err = d.retry(ctx, "ask the source for its transactions", func(ctx context.Context) error {
		v, err = d.ask(ctx)
		return err
	})
	return v, err
}
