package table_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/history"
	"github.com/doubletap-cdc/doubletap/replay/table"
)

// binlogRange replays transactions of the binlog, as simply as can be.
type binlogRange struct {
	r         *rig
	low, high string
	planned   *int
}

func (b *binlogRange) Plan(context.Context) (replay.Plan, error) {
	*b.planned++
	return replay.Plan{}, nil
}

func (b *binlogRange) Read(_ context.Context, from replay.Cursor, fn func(context.Context, replay.Chunk) error) error {
	high, err := gtid.Parse(b.high)
	if err != nil {
		return err
	}
	low := b.low
	if from != "" {
		low = string(from)
	}
	done, _ := gtid.Parse(low)
	return b.r.follow(low, high, func(ctx context.Context, bt pipeline.Batch) error {
		e := pipeline.Event{Kind: pipeline.KindChanges, GTID: bt.Txn.GTID, Tables: copied(bt.Tables)}
		if bt.Last {
			if err := done.Add(bt.Txn.GTID); err != nil {
				return err
			}
		}
		return fn(ctx, replay.Chunk{Events: []pipeline.Event{e}, Rows: 1, Next: replay.Cursor(done.String()), Done: -1})
	})
}

// copied keeps what a source's batch only lends.
func copied(tables []pipeline.TableRows) (out []pipeline.TableRows) {
	for _, tr := range tables {
		c := tr
		c.Rows = nil
		for _, row := range tr.Rows {
			c.Rows = append(c.Rows, pipeline.Row{Before: append([]keys.Value(nil), row.Before...), After: append([]keys.Value(nil), row.After...)})
			if last := &c.Rows[len(c.Rows)-1]; row.Before == nil {
				last.Before = nil
			} else if row.After == nil {
				last.After = nil
			}
		}
		out = append(out, c)
	}
	return out
}

// TestWalkAndTheBinlogBetween shows that nothing is left out with the pipeline
// stopped: what the walk and the binlog between its ends bring has the keys of
// every row that stayed, and of both images of everything that changed meanwhile.
func TestWalkAndTheBinlogBetween(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) { walkAndBetween(t, f) })
	}
}

func walkAndBetween(t *testing.T, f flavor) {
	b := newBusy(t, f)
	b.deps.Binlog = func(low, high string) (replay.Source, error) {
		b.stop() // so that the test can compare; the window is closed by now
		return history.OpenBinlog(history.BinlogDeps{Source: b.source(), Name: "shop", Schema: b.deps.Schema.Hash()}, history.BinlogSpec{Set: high, After: low})
	}
	src, err := table.Open(b.deps, table.Spec{DB: b.db, Table: "item", Between: true, Chunk: 50})
	if err != nil {
		t.Fatal(err)
	}
	got := b.replay(src)
	var at struct{ Low, High string }
	decode(t, got.chunks[len(got.chunks)-1].Next, &at)
	high, err := gtid.Parse(at.High)
	if err != nil {
		t.Fatal(err)
	}
	during := b.changedBetween(mustParse(t, at.Low), high)
	if len(during) < 50 || len(got.scopes) > 0 {
		t.Fatalf("only %d keys were changed during the walk; stale: %v", len(during), got.scopes)
	}
	if m := missing(during, got.keys); len(m) > 0 {
		t.Errorf("changed during the walk and not brought: %v", m)
	}
	// What changed after the window is somebody else's.
	after := b.changedBetween(high, b.view().Written)
	if m := missing(b.keysNow(), append(after, got.keys...)); len(m) > 0 {
		t.Errorf("there and not brought: %v", m)
	}
	if m := missing(during, walkOnly(b.rig, got)); len(m) == 0 {
		t.Error("the walk alone had everything: the test shows nothing")
	}
}

// walkOnly returns the keys of the chunks of the walk.
func walkOnly(r *rig, s *seen) []string {
	only := &seen{}
	for _, c := range s.chunks {
		var at struct{ High string }
		if decode(r.t, c.Next, &at); at.High == "" {
			only.take(r.t, r.deps.Schema, c)
		}
	}
	return only.keys
}

// TestBetweenGoesOn stops after each chunk in turn, and goes on from its cursor
// with sources made anew.
func TestBetweenGoesOn(t *testing.T) {
	b := newBusy(t, flavors[0])
	planned := 0
	b.deps.Binlog = func(low, high string) (replay.Source, error) {
		b.stop()
		return &binlogRange{b.rig, low, high, &planned}, nil
	}
	src, err := table.Open(b.deps, table.Spec{DB: b.db, Table: "item", Between: true, Chunk: 500})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := src.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, from, phases := &seen{}, replay.Cursor(""), map[bool]int{}
	for {
		var spec table.Spec
		decode(t, replay.Cursor(plan.Fixed), &spec)
		if src, err = table.Open(b.deps, spec); err != nil {
			t.Fatal(err)
		}
		var one *replay.Chunk
		err := src.Read(t.Context(), from, func(_ context.Context, c replay.Chunk) error {
			one = &c
			if planned < 3 {
				return errEnough
			}
			got.take(t, b.deps.Schema, c)
			return nil
		})
		if err == nil {
			break
		}
		if err != errEnough { //nolint:errorlint // it must come back as it is
			t.Fatal(err)
		}
		got.take(t, b.deps.Schema, *one)
		from = one.Next
		phases[planned > 0]++
	}
	if phases[false] < 5 || phases[true] != 2 {
		t.Fatalf("it was stopped %d times in the walk, %d times in the binlog", phases[false], phases[true])
	}
	var at struct{ Low, High string }
	decode(t, got.chunks[len(got.chunks)-1].Next, &at)
	if m := missing(b.changedBetween(mustParse(t, at.Low), mustParse(t, at.High)), got.keys); len(m) > 0 {
		t.Errorf("changed during the walk and not brought: %v", m)
	}
}

// goneBinlog has lost something.
type goneBinlog struct {
	warnings  []string
	plan, end error
}

func (g goneBinlog) Plan(context.Context) (replay.Plan, error) {
	return replay.Plan{Warnings: g.warnings}, g.plan
}

func (g goneBinlog) Read(ctx context.Context, _ replay.Cursor, fn func(context.Context, replay.Chunk) error) error {
	if err := fn(ctx, replay.Chunk{Next: "some"}); err != nil {
		return err
	}
	return g.end
}

// TestWhatIsGoneOfTheWindowSweepsTheTable: a binlog that was purged while the table
// was walked leaves nothing out, and says so.
func TestWhatIsGoneOfTheWindowSweepsTheTable(t *testing.T) {
	r := newItems(t, flavors[0], 5)
	gap := fmt.Errorf("read: %w", &pipeline.GapError{Reason: "purged"})
	for _, c := range []struct {
		name   string
		src    goneBinlog
		chunks int // of the walk and of the binlog
		fails  bool
		swept  bool
	}{
		{"nothing", goneBinlog{}, 2, false, false}, {"a part", goneBinlog{warnings: []string{"purged"}}, 3, false, true},
		{"all", goneBinlog{plan: gap}, 2, false, true}, {"on the way", goneBinlog{end: gap}, 3, false, true},
		{"both", goneBinlog{warnings: []string{"purged"}, end: gap}, 3, false, true}, {"another error", goneBinlog{end: errBroken}, 2, true, false},
	} {
		r.deps.Binlog = func(string, string) (replay.Source, error) { return c.src, nil }
		src, err := table.Open(r.deps, table.Spec{DB: r.db, Table: "item", Between: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := src.Plan(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, written := &seen{}, false
		err = src.Read(t.Context(), "", func(_ context.Context, c replay.Chunk) error {
			if got.take(t, r.deps.Schema, c); !written {
				r.exec("UPDATE item SET category = category + 1") // so that there is a window
				written = true
			}
			return nil
		})
		if (err != nil) != c.fails || c.fails && !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", c.name, err)
		}
		if len(got.chunks) != c.chunks || (len(got.scopes) == 1) != c.swept {
			t.Errorf("%s: %d chunks, stale %v", c.name, len(got.chunks), got.scopes)
		}
		if c.swept && got.scopes[0] != pipeline.TableScope(r.db, "item") {
			t.Errorf("%s: stale %v", c.name, got.scopes)
		}
	}
}

// TestWalkBesideTheLivePipeline shows that a walk needs no windows while somebody
// follows the binlog with the same schema: the walk and the live events together
// have every key, of what was there and of what changed.
func TestWalkBesideTheLivePipeline(t *testing.T) {
	b := newBusy(t, flavors[0])
	got := b.walk(table.Spec{Table: "item", Chunk: 50})
	b.stop()
	live := b.changedBetween(b.begun.Shown, b.view().Written)
	var want []string
	for i := range busyRows { // what was there, and may be cached, when it began
		want = append(want, fmt.Sprintf("item:%d", i*10), fmt.Sprintf("list:%d", i))
	}
	if m := missing(append(want, b.keysNow()...), append(live, got.keys...)); len(m) > 0 {
		t.Errorf("neither walked nor live: %v", m)
	}
	if len(missing(want, got.keys)) == 0 || len(missing(want, live)) == 0 {
		t.Error("one of the two had everything: the test shows nothing")
	}
}
