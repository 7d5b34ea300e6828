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
	schema string           // by which the replay's keys are to be made
	path   string
	before int64 // in the state by processes before this one
	stored lettersStored
	count  atomic.Int64
}

// lettersFile says, in the state folder, where the topic of replays ended when the
// replay began, and what became of it.
const lettersFile = "topic.json"

// lettersStored is its form. Started names the replay: a folder is used again.
type lettersStored struct {
	Started time.Time         `json:"started"`
	Bounds  []pipeline.Bounds `json:"bounds"`
	// Seen is what was found when both passes had handled everything; nil before.
	Seen *lettersSeen `json:"seen,omitempty"`
}

// lettersSeen is what dead letters say of a replay.
type lettersSeen struct {
	All int64 `json:"all"`
	// Other is how many records were handled by invalidators with another key schema
	// than the replay's, which could not make its keys; Reasons are the first few
	// that they gave.
	Other   int64    `json:"other_schema"`
	Reasons []string `json:"reasons,omitempty"`
}

// maxReasons bounds lettersSeen.Reasons.
const maxReasons = 3

// readLetters reads what a replay's state folder says; ok is false where it says
// nothing of this replay.
func readLetters(state *replay.State) (stored lettersStored, ok bool) {
	text, err := os.ReadFile(filepath.Join(state.Dir(), lettersFile))
	ok = err == nil && json.Unmarshal(text, &stored) == nil && stored.Started.Equal(state.Started)
	return stored, ok
}

// newLetters begins to count, or goes on. It is called before anything is published.
func newLetters(ctx context.Context, topic pipeline.History, name string, state *replay.State) (l *letters, err error) {
	l = &letters{topic: topic, name: name, schema: state.Job().Schema, path: filepath.Join(state.Dir(), lettersFile), before: state.Counts().DeadLetters}
	var ok bool
	if l.stored, ok = readLetters(state); ok {
		return l, nil
	}
	l.stored = lettersStored{Started: state.Started}
	if l.stored.Bounds, err = topic.Bounds(ctx); err != nil {
		return nil, fmt.Errorf("look where the topic %s ends: %w", name, err)
	}
	return l, l.store()
}

// store replaces the file as a whole: half of one would make a process that goes on
// begin to count anew.
func (l *letters) store() error {
	text, err := json.Marshal(l.stored)
	if err == nil {
		err = os.WriteFile(l.path+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(l.path+".new", l.path)
	}
	if err != nil {
		return fmt.Errorf("keep what is known of the topic %s: %w", l.name, err)
	}
	return nil
}

// look reads the dead letters, and stores what they say. One that was added again
// after a crash counts once.
func (l *letters) look(ctx context.Context) error {
	type place struct {
		partition string
		offset    int64
	}
	type part struct {
		place
		reason string
	}
	var names []string
	for i := range l.stored.Bounds {
		names = append(names, fmt.Sprintf("%s/%d", l.name, i))
	}
	seen, others := map[part]bool{}, map[place]bool{}
	var found lettersSeen
	err := l.topic.DeadLetters(ctx, 0, func(d pipeline.DeadLetter) error {
		i := slices.Index(names, d.Partition)
		if i < 0 || d.Offset < l.stored.Bounds[i].End {
			return nil
		}
		at := place{d.Partition, d.Offset}
		seen[part{at, d.Reason}] = true
		if d.Schema != "" && d.Schema != l.schema {
			others[at] = true
			if len(found.Reasons) < maxReasons && !slices.Contains(found.Reasons, d.Reason) {
				found.Reasons = append(found.Reasons, d.Reason)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("count the dead letters: %w", err)
	}
	found.All, found.Other = int64(len(seen)), int64(len(others))
	l.count.Store(found.All)
	l.stored.Seen = &found
	return l.store()
}

// outcome returns what the dead letters say when the replay is done; it looks where
// nobody has yet.
func (l *letters) outcome(ctx context.Context) (lettersSeen, error) {
	if l.stored.Seen == nil {
		if err := l.look(ctx); err != nil {
			return lettersSeen{}, fmt.Errorf("everything was handled, whether by the right key schema is not known: %w", err)
		}
	}
	return *l.stored.Seen, nil
}

// made is how many were made since this process began, as far as it has looked.
func (l *letters) made() int64 { return max(0, l.count.Load()-l.before) }
