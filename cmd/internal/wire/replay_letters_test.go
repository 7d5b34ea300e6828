package wire

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// deadLetters is the History of a topic of replays.
type deadLetters struct {
	pipeline.History
	ends []int64
	all  []pipeline.DeadLetter
}

func (d *deadLetters) Bounds(context.Context) (all []pipeline.Bounds, err error) {
	for _, end := range d.ends {
		all = append(all, pipeline.Bounds{End: end})
	}
	return all, nil
}

func (d *deadLetters) DeadLetters(_ context.Context, _ int64, fn func(pipeline.DeadLetter) error) error {
	for _, l := range d.all {
		if err := fn(l); err != nil {
			return err
		}
	}
	return nil
}

// TestLetters: dead letters of this replay are counted, once each, also those that
// came while no process was at work on it.
func TestLetters(t *testing.T) {
	dir := t.TempDir()
	newState := func() *replay.State {
		s, err := replay.CreateState(dir, replay.Job{Kind: "table", Fixed: json.RawMessage(`{}`)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	begin := func(d *deadLetters, s *replay.State) *letters {
		l, err := newLetters(t.Context(), d, "shop.replay", s)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	want := func(when string, l *letters, n int64) {
		t.Helper()
		if err := l.look(t.Context()); err != nil || l.made() != n {
			t.Errorf("%s: %d dead letters, %v, want %d", when, l.made(), err, n)
		}
	}
	d := &deadLetters{ends: []int64{5, 0}, all: []pipeline.DeadLetter{
		{Partition: "shop.replay/0", Offset: 4, Reason: "of a replay before"},
		{Partition: "shop/0", Offset: 9, Reason: "live"},
		{Partition: "shop.replay/7", Offset: 9, Reason: "a partition that is new"},
	}}
	s := newState()
	l := begin(d, s)
	want("at first", l, 0)
	d.ends = []int64{9, 3}
	d.all = append(d.all, pipeline.DeadLetter{Partition: "shop.replay/0", Offset: 5, Reason: "a"},
		pipeline.DeadLetter{Partition: "shop.replay/0", Offset: 5, Reason: "b"},
		pipeline.DeadLetter{Partition: "shop.replay/1", Offset: 0, Reason: "a"},
		pipeline.DeadLetter{Partition: "shop.replay/0", Offset: 5, Reason: "a"})
	want("one of them twice", l, 3)
	want("by the next process", begin(d, s), 3)
	s.Started = s.Started.Add(-1) // another replay in the same folder
	want("by the next replay", begin(d, s), 0)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
