package wire

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/config"
	"github.com/doubletap-cdc/doubletap/deleter"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

const otherReason = "made for another key schema: its keys are those of a, and this invalidator has b"

// TestUnsure: records that an invalidator with another schema could not turn into
// keys end the replay with exit code 1, also where the process was killed before it
// could say so, and whoever asks again hears it again.
func TestUnsure(t *testing.T) {
	dir := t.TempDir()
	state, err := replay.CreateState(dir, replay.Job{Kind: kindTable, Fixed: json.RawMessage(`{}`), Schema: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close() //nolint:errcheck // of a test
	var out strings.Builder
	r := &replaying{args: newReplayArgs(verbTable), state: state, stderr: &out}
	r.args.Target, r.args.Config, r.args.State = targetTopic, "/etc/doubletap.yaml", dir
	d := &deadLetters{ends: []int64{5}}
	begin := func() *letters {
		l, err := newLetters(t.Context(), d, "shop.replay", state)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	conclude := func() (s replay.Summary, err error) { return s, r.conclude(t.Context(), &s, begin()) }
	d.all = []pipeline.DeadLetter{
		{Partition: "shop.replay/0", Offset: 4, Reason: otherReason, Schema: "b"}, // of a replay before
		{Partition: "shop.replay/0", Offset: 5, Reason: "of an older release"},
		{Partition: "shop.replay/0", Offset: 6, Reason: "rule item: no column id", Schema: "a"},
		{Partition: "shop.replay/0", Offset: 7, Reason: otherReason, Schema: "b"},
		{Partition: "shop.replay/0", Offset: 7, Reason: otherReason + "c", Schema: "c"},
		{Partition: "shop.replay/0", Offset: 8, Reason: "version 2, want 1", Schema: "b"}, // and so not known to be for another schema
	}
	begin()
	if err := r.ended(); err != nil {
		t.Errorf("nobody has looked yet: %v", err)
	}

	s, err := conclude()
	if s.Result != unsure || s.OtherSchema != 2 || s.DeadLetters != 5 || s.Error == "" {
		t.Errorf("%+v", s)
	}
	for _, err := range []error{err, r.ended()} {
		out.Reset()
		if code := r.exit(err); code != ExitRuntime {
			t.Errorf("exit code %d", code)
		}
		for _, want := range []string{"2 records", "replay dead -config /etc/doubletap.yaml\n", "-target redis", otherReason} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("it does not say %q: %s", want, out.String())
			}
		}
	}
	d.all = nil // the topic's retention
	if _, err := conclude(); err == nil {
		t.Error("what was found is forgotten")
	}
}

// TestEnded: only what is known to be right counts as done.
func TestEnded(t *testing.T) {
	for _, c := range []struct {
		name, target, file string
		done, goesOn       bool
	}{
		{"redis", targetRedis, "", true, false},
		{"all right", targetTopic, `{"started":"STARTED","bounds":[],"seen":{"all":3,"other_schema":0}}`, true, false},
		{"not looked at", targetTopic, `{"started":"STARTED","bounds":[]}`, false, true},
		{"unsure", targetTopic, `{"started":"STARTED","bounds":[],"seen":{"all":3,"other_schema":1}}`, false, false},
		{"of another replay", targetTopic, `{"started":"2020-01-01T00:00:00Z","bounds":[],"seen":{"all":3,"other_schema":1}}`, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			state, err := replay.CreateState(dir, replay.Job{Kind: kindTable, Fixed: json.RawMessage(`{}`)})
			if err != nil {
				t.Fatal(err)
			}
			defer state.Close() //nolint:errcheck // of a test
			started, err := state.Started.MarshalText()
			if err != nil {
				t.Fatal(err)
			}
			if c.file != "" {
				text := strings.ReplaceAll(c.file, "STARTED", string(started))
				if err := os.WriteFile(filepath.Join(dir, lettersFile), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r := &replaying{args: newReplayArgs(verbTable), state: state, stderr: io.Discard}
			r.args.Target = c.target
			if err := r.ended(); errors.Is(err, errDone) != c.done || (err == nil) != c.goesOn {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestTellOthers: invalidators with another schema that come while a replay runs are
// named, once.
func TestTellOthers(t *testing.T) {
	redis, err := deleter.New(deleter.Config{Addrs: []string{envtest.Redis(t).Addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer redis.Close()
	schema, err := keys.Parse("keys.yaml", []byte("version: 1\nkeys: [{name: item, table: shop.item, key: 'item:{id}'}]"))
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Config{}
	c.Source.Name = "others"
	var out strings.Builder
	r := &replaying{app: &App{Config: c, Schema: schema}, redis: redis, stderr: &out}
	told := r.tellNew(t.Context(), nil)
	for i, hash := range []string{schema.Hash(), "another", "third"} {
		turn, err := redis.Turn(t.Context(), "others", i, time.Minute)
		if err == nil {
			err = redis.Post(t.Context(), turn, pipeline.Watermark{Source: "others", Partition: i, Partitions: 3, Schema: hash})
		}
		if err != nil {
			t.Fatal(err)
		}
		told = r.tellNew(t.Context(), r.tellNew(t.Context(), told))
	}
	if strings.Count(out.String(), "(another)") != 1 || strings.Count(out.String(), "(third)") != 1 || strings.Contains(out.String(), schema.Hash()) {
		t.Errorf("told %q:\n%s", told, out.String())
	}
}

// brokenLetters is a topic whose dead letters cannot be read.
type brokenLetters struct{ deadLetters }

func (brokenLetters) DeadLetters(context.Context, int64, func(pipeline.DeadLetter) error) error {
	return errors.New("no route")
}

// TestOutcomeNotKnown: what cannot be looked at is not taken for right.
func TestOutcomeNotKnown(t *testing.T) {
	state, err := replay.CreateState(t.TempDir(), replay.Job{Kind: kindTable, Fixed: json.RawMessage(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close() //nolint:errcheck // of a test
	l, err := newLetters(t.Context(), &brokenLetters{deadLetters{ends: []int64{5}}}, "shop.replay", state)
	if err != nil {
		t.Fatal(err)
	}
	r := &replaying{args: newReplayArgs(verbTable), state: state, stderr: io.Discard}
	if err := r.conclude(t.Context(), &replay.Summary{}, l); err == nil || !strings.Contains(err.Error(), "replay resume") {
		t.Errorf("%v", err)
	}
}
