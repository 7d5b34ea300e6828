package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/commands"
)

// replaying is one run of the command replay.
type replaying struct {
	*commands.Process
	out string
}

// startReplay starts a replay of the large table, or goes on with the one of
// that name.
func (w *world) startReplay(r run, name string, o options) (*replaying, error) {
	state := filepath.Join(w.dir, name)
	args := []string{"table", "-config", r.file, "-table", "shop.big"}
	if _, err := os.Stat(state); err == nil {
		args = []string{"resume", "-config", r.file}
	}
	c := &replaying{out: state + ".json"}
	args = append(args, "-state", state, "-summary", c.out, "-yes")
	var err error
	c.Process, err = commands.Start(commands.Spec{
		Path: filepath.Join(w.dir, commands.Replay), Args: append(args, o.replayFlags...), Log: state + ".log",
	})
	return c, err
}

// took waits for its end, and says how long it ran.
func (c *replaying) took(ctx context.Context) (seconds float64, err error) {
	err = c.Wait(ctx)
	return time.Since(c.Began).Seconds(), err
}

// replaySummary is what the command says at its end.
type replaySummary struct {
	ChunksRedone int `json:"chunks_redone"`
}

func (c *replaying) summary() (s replaySummary, err error) {
	text, err := os.ReadFile(c.out)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(text, &s)
}

// watchMemory reads the process's resident memory ten times a second. The result
// returns the largest while half held, and the largest of all.
func (c *replaying) watchMemory(ctx context.Context, half func() bool) func() (atHalf, peak float64) {
	var mu sync.Mutex
	var atHalf, peak float64
	go func() {
		for pause(ctx, 100*time.Millisecond) == nil {
			now, err := resident(c.Pid())
			if err != nil {
				return // it has ended
			}
			mu.Lock()
			peak = max(peak, now)
			if half() {
				atHalf = peak
			}
			mu.Unlock()
		}
	}()
	return func() (float64, float64) {
		mu.Lock()
		defer mu.Unlock()
		return atHalf, peak
	}
}
