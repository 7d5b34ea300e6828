package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/deleter"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

const (
	replayedBy = "version: 1\nkeys:\n  - {name: item, table: \"*.item\", key: 'item:{id}'}\n  - {name: marker, table: \"*.marker\", key: 'marker:{id}'}\n"
	rolledOut  = "version: 1\nkeys:\n  - {name: item, table: \"*.item\", key: 'other:{id}'}\n  - {name: marker, table: \"*.marker\", key: 'marker:{id}'}\n"
)

// TestReplayMeetsAnotherSchema: an invalidator with another key schema joins while a
// replay runs. What it gets cannot be turned into the replay's keys: the command says
// so, and when that invalidator is gone, replay dead deletes what is left.
func TestReplayMeetsAnotherSchema(t *testing.T) {
	const items = 48
	r := &replayRig{rig: newRig(t, options{keys: replayedBy, fill: 200 * time.Millisecond}), running: true}
	command(t, "replay")
	r.pipeline(1)
	var rows []string
	for id := 1; id <= items; id++ {
		rows = append(rows, fmt.Sprintf("(%d, 1, 1, 'draft')", id))
	}
	r.exec("INSERT INTO item (id, category, price, status) VALUES " + strings.Join(rows, ","))
	r.settle()
	cached := testenv.OpenRedis(envtest.Redis(t))
	defer cached.Close()
	for id := 1; id <= items; id++ {
		for _, key := range []string{"item", "other"} {
			if err := cached.Set(t.Context(), fmt.Sprintf("%s:%d", key, id), "stale", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}

	state := filepath.Join(r.dir, "replay")
	cmd := exec.CommandContext(t.Context(), command(t, "replay"), "table", "-table", r.db+".item", "-chunk", "2", "-rate", "8",
		"-config", r.config, "-state", state, "-summary", state+".json", "-yes")
	cmd.Env = append(os.Environ(), "MYSQL_PASSWORD="+secret, "REDIS_PASSWORD="+secret)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.mon.wait(t, stalled, func() bool { return len(r.mon.times("item:1")) > 1 }) // it is under way
	leave := r.join(t, rolledOut)
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("replay ended with %v\n%s", err, said.String())
	}
	theirs, err := keys.Parse("keys.yaml", []byte(rolledOut))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{theirs.Hash(), "replay dead -config " + r.config, "not all keys"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, said.String())
		}
	}
	var sum struct {
		Result      string `json:"result"`
		OtherSchema int64  `json:"other_schema"`
	}
	if text, err := os.ReadFile(state + ".json"); err != nil || json.Unmarshal(text, &sum) != nil || sum.Result != "unsure" || sum.OtherSchema == 0 {
		t.Errorf("summary: %+v, %v: %s", sum, err, text)
	}
	missed := left(t, cached, "item:*")
	if missed == 0 || missed == items || left(t, cached, "other:*") != 0 {
		t.Errorf("%d keys of the replay are left, and %d of the other schema", missed, left(t, cached, "other:*"))
	}
	t.Logf("%d records and %d of %d keys were not certain", sum.OtherSchema, missed, items)

	// Whoever asks again hears it again, also where nobody had heard it.
	r.outcome(t, state)
	if err := os.WriteFile(filepath.Join(state, "topic.json"), notLooked(t, filepath.Join(state, "topic.json")), 0o600); err != nil {
		t.Fatal(err)
	}
	r.outcome(t, state)

	leave()
	r.mon.forget()
	_, text := r.replay(t, "", "dead")
	if n := left(t, cached, "item:*"); n != 0 {
		t.Errorf("%d keys are left after replay dead:\n%s", n, text)
	}
	if got := int64(len(r.mon.snapshot())); got < int64(missed) || got >= items {
		t.Errorf("replay dead deleted %d keys; %d of %d were left", got, missed, items)
	}
}

// outcome asks for the outcome of a replay that was unsure.
func (r *replayRig) outcome(t *testing.T, state string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command(t, "replay"), "resume", "-state", state)
	cmd.Env = append(os.Environ(), "MYSQL_PASSWORD="+secret, "REDIS_PASSWORD="+secret)
	text, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(text), "not all keys") {
		t.Errorf("replay resume ended with %v:\n%s", err, text)
	}
}

// notLooked returns what the state folder knows of the dead letters, as of a process
// that was killed before it had looked.
func notLooked(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var stored map[string]json.RawMessage
	if err := json.Unmarshal(text, &stored); err != nil || stored["seen"] == nil {
		t.Fatalf("%v: %s", err, text)
	}
	delete(stored, "seen")
	if text, err = json.Marshal(stored); err != nil {
		t.Fatal(err)
	}
	return text
}

// join runs an invalidator that handles replays only, by a schema of its own, as one
// does to which the live topic has given no partition.
func (r *replayRig) join(t *testing.T, schema string) (leave func()) {
	t.Helper()
	s, err := keys.Parse("keys.yaml", []byte(schema))
	if err != nil {
		t.Fatal(err)
	}
	k, err := bus.NewKafka(bus.KafkaConfig{Brokers: []string{r.o.kafka.Addr}, Topic: r.topic, Partitions: 8})
	if err != nil {
		t.Fatal(err)
	}
	d, err := deleter.New(deleter.Config{Addrs: []string{envtest.Redis(t).Addr}})
	if err != nil {
		t.Fatal(err)
	}
	inv := &pipeline.Invalidator{
		Schema: s, Deleter: d, DeadLetters: k.DeadLetters(), Fill: r.o.fill, Replays: true, HoldOthers: time.Second,
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- inv.Run(ctx, k.Replay().Consumer(r.topic+".invalidator.replay")) }()
	left := false
	leave = func() {
		if left {
			return
		}
		left = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the other invalidator: %v", err)
		}
		if err := k.Close(context.Background()); err != nil {
			t.Error(err)
		}
		d.Close()
	}
	t.Cleanup(leave)
	return leave
}

// left counts the keys like a pattern.
func left(t *testing.T, c *redis.Client, pattern string) int {
	t.Helper()
	all, err := c.Keys(t.Context(), pattern).Result()
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
