package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const replayCommand = "replay"

// replaying is one run of the command replay.
type replaying struct {
	log, out string
	cmd      *exec.Cmd
	began    time.Time
	ended    chan struct{}
	err      error // how it ended
}

// startReplay starts a replay of the large table, or goes on with the one of
// that name.
func (w *world) startReplay(ctx context.Context, r run, name string, o options) (*replaying, error) {
	state := filepath.Join(w.dir, name)
	args := []string{"table", "-config", r.file, "-table", "shop.big"}
	if _, err := os.Stat(state); err == nil {
		args = []string{"resume", "-config", r.file}
	}
	c := &replaying{log: state + ".log", out: state + ".json", ended: make(chan struct{})}
	logFile, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	args = append(args, "-state", state, "-summary", c.out, "-yes")
	c.cmd = exec.Command(filepath.Join(w.dir, replayCommand), append(args, o.replayFlags...)...)
	c.cmd.Stderr = logFile
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.began = time.Now()
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start replay: %w", err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// kill ends it as kill -9 does, where it has not ended.
func (c *replaying) kill() {
	_ = c.cmd.Process.Kill()
	<-c.ended
}

// wait waits for its end, and says how long it ran.
func (c *replaying) wait(ctx context.Context) (seconds float64, err error) {
	select {
	case <-c.ended:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if c.err != nil {
		return 0, fmt.Errorf("replay failed: %w\n%s", c.err, lastLines(c.log))
	}
	return time.Since(c.began).Seconds(), nil
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
			now, err := resident(c.cmd.Process.Pid)
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
