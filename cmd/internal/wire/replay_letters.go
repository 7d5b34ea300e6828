package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// letters counts the dead letters of a replay that invalidators elsewhere handle:
// those about records that were appended since it began, of other replays of that
// time too.
type letters struct {
	topic  pipeline.History // the one of replays
	name   string           // of the topic
	before int64            // in the state by processes before this one
	since  []pipeline.Bounds
	count  atomic.Int64
}

// lettersFile says, in the state folder, where the topic of replays ended when the
// replay began.
const lettersFile = "topic.json"

// lettersSince is its form. Started names the replay: a folder is used again.
type lettersSince struct {
	Started time.Time         `json:"started"`
	Bounds  []pipeline.Bounds `json:"bounds"`
}

// newLetters begins to count, or goes on. It is called before anything is published.
func newLetters(ctx context.Context, topic pipeline.History, name string, state *replay.State) (*letters, error) {
	l := &letters{topic: topic, name: name, before: state.Counts().DeadLetters}
	path := filepath.Join(state.Dir(), lettersFile)
	var stored lettersSince
	if text, err := os.ReadFile(path); err == nil && json.Unmarshal(text, &stored) == nil && stored.Started.Equal(state.Started) {
		l.since = stored.Bounds
		return l, nil
	}
	var err error
	if l.since, err = topic.Bounds(ctx); err != nil {
		return nil, fmt.Errorf("look where the topic %s ends: %w", name, err)
	}
	text, err := json.Marshal(lettersSince{state.Started, l.since})
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("keep where the topic %s ends: %w", name, err)
	}
	return l, nil
}

// look reads the dead letters. One that was added again after a crash counts once.
func (l *letters) look(ctx context.Context) error {
	type part struct {
		partition, reason string
		offset            int64
	}
	var names []string
	for i := range l.since {
		names = append(names, fmt.Sprintf("%s/%d", l.name, i))
	}
	seen := map[part]bool{}
	err := l.topic.DeadLetters(ctx, 0, func(d pipeline.DeadLetter) error {
		if i := slices.Index(names, d.Partition); i >= 0 && d.Offset >= l.since[i].End {
			seen[part{d.Partition, d.Reason, d.Offset}] = true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("count the dead letters: %w", err)
	}
	l.count.Store(int64(len(seen)))
	return nil
}

// made is how many were made since this process began, as far as it has looked.
func (l *letters) made() int64 { return max(0, l.count.Load()-l.before) }
