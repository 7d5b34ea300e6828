package wire

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/config"
	"github.com/doubletap-cdc/doubletap/deleter"
	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
	"github.com/doubletap-cdc/doubletap/watermark"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestPlanText(t *testing.T) {
	p := planText{
		What:   []string{"row changes of shop, from 2026-11-16T23:00:00Z until now, by the server's clock", "about 120000 transactions to read, up to what is executed now"},
		Rows:   1234567,
		Schema: "/etc/doubletap/keys.yaml (8f2b1c3d4e5f6071)", Old: "/etc/doubletap/keys-old.yaml (1111111111111111)",
		Target: "the topic doubletap.shop.replay, which the running invalidators consume",
		Pace:   paceText(20000, 5*time.Millisecond, time.Second), State: "/var/lib/doubletap/replay",
		Warnings: []string{
			"The binlogs begin at 2026-11-17T02:00:00Z: transactions between 2026-11-16T23:00:00Z and then are not replayed; what they changed is covered by binlog files from an archive, or by a replay of the tables.",
			"A second one.",
		},
	}
	var b strings.Builder
	p.write(&b, 0)
	p.Pace = paceText(-1, 5*time.Millisecond, time.Second) + "\n" + paceText(0, 5*time.Millisecond, time.Second)
	p.DryRun, p.Rows, p.Old, p.Warnings = true, -1, "", nil
	p.write(&b, 80)
	for line := range strings.Lines(b.String()) {
		if len(line) > planWidth { // with its end
			t.Errorf("%d characters: %s", len(line), line)
		}
	}
	const golden = "testdata/plan.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || b.String() != string(want) {
		t.Errorf("%v: the plan is\n%s\nwant\n%s", err, b.String(), want)
	}
}

func TestQuestion(t *testing.T) {
	for answer, want := range map[string]error{"y\n": nil, "YES\n": nil, "yes": nil, "\n": errNo, "n\n": errNo, "": errNo, "yesterday\n": errNo} {
		var out strings.Builder
		if err := question(t.Context(), strings.NewReader(answer), &out); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", answer, err, want)
		}
		if out.String() != "Delete these keys? [y/N] " {
			t.Errorf("it asks %q", out.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	if err := question(ctx, in, &strings.Builder{}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted while asking: %v", err)
	}
	if err := ask(t.Context(), in, &strings.Builder{}, false); !errors.Is(err, errNobody) {
		t.Errorf("a pipe was asked: %v", err)
	}
}

func TestShellLine(t *testing.T) {
	got := shellLine("replay", "table", "-where", "name = 'it''s'", "-summary", "", "-state", "/var/lib/a b")
	if want := `replay table -where 'name = '\''it'\'''\''s'\''' -summary '' -state '/var/lib/a b'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestLag is about how late live deletes are, by what the source had executed when
// and what the passes have handled.
func TestLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const server = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-"
		set := func(n string) gtid.Set {
			s, err := gtid.Parse(server + n)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		done := set("5")
		covers := func(s gtid.Set, p watermark.Pass) bool { return p == watermark.First && done.HasAll(s) }
		var l liveLoad
		look := func(executed string, want time.Duration) {
			t.Helper()
			if got := l.judge(sample{time.Now(), set(executed)}, covers); got != want {
				t.Errorf("executed %s: %v late, want %v", executed, got, want)
			}
			time.Sleep(time.Second)
		}
		look("5", 0)
		look("6", 0) // lacked since now
		look("7", time.Second)
		look("7", 2*time.Second)
		done = set("6")
		look("8", 2*time.Second) // 7 was there two seconds ago
		done = set("8")
		look("8", 0)
		for range 2 * maxSamples {
			l.judge(sample{time.Now(), set("9")}, covers)
		}
		if len(l.samples) > maxSamples {
			t.Errorf("%d samples are kept", len(l.samples))
		}
		time.Sleep(time.Minute)
		look("9", time.Minute)
	})
}

// TestSilent: a pipeline that was there a moment ago, or speaks for a part, should
// say how late it is; one that is stopped cannot be late.
func TestSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l liveLoad
		if err := l.silent(0); err != nil {
			t.Errorf("never seen: %v", err)
		}
		if err := l.silent(2); err == nil {
			t.Error("a partition without an owner is well")
		}
		time.Sleep(goneAfter / 2)
		if err := l.silent(0); err == nil || !strings.Contains(err.Error(), "for 30s") {
			t.Errorf("silent for 30 s: %v", err)
		}
		time.Sleep(goneAfter / 2)
		if err := l.silent(0); err != nil {
			t.Errorf("silent for a minute: %v", err)
		}
	})
}

// TestLiveSchemas is about who covers what, and who would make keys of a replay.
func TestLiveSchemas(t *testing.T) {
	parse := func(text string) *keys.Schema {
		s, err := keys.Parse("keys.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	mine := parse("version: 1\nkeys: [{name: item, table: shop.item, key: 'item:{id}'}]")
	hash, other := mine.Hash(), parse("version: 1\nkeys: [{name: item, table: shop.item, key: 'price:{id}'}]").Hash()
	for _, c := range []struct {
		name    string
		live    liveState
		covers  bool
		refused bool
		warns   int
	}{
		{"all have it", liveState{running: true, schema: hash, invalidators: []string{hash, hash}}, true, false, 0},
		{"nothing runs", liveState{}, false, false, 0},
		{"the tailer says nothing", liveState{running: true, invalidators: []string{hash}}, false, false, 0},
		{"the tailer has another", liveState{running: true, schema: other, invalidators: []string{hash}}, false, false, 1},
		{"one invalidator has another", liveState{running: true, schema: hash, invalidators: []string{hash, other, other}}, false, true, 1},
		{"another, and some partitions have nobody", liveState{invalidators: []string{other}}, false, true, 1},
		{"one does not say", liveState{running: true, schema: hash, invalidators: []string{hash, ""}}, false, false, 1},
		{"one has another, one does not say", liveState{running: true, schema: hash, invalidators: []string{"", other}}, false, true, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.live.covers(mine); got != c.covers {
				t.Errorf("covers: %v", got)
			}
			err := c.live.refuseOthers(mine, "keys.yaml")
			if (err != nil) != c.refused || err != nil && (!strings.Contains(err.Error(), other) || strings.Count(err.Error(), other) > 1) {
				t.Errorf("refused: %v", err)
			}
			if got := c.live.warnings(mine, "keys.yaml", targetTopic); len(got) != c.warns {
				t.Errorf("%d warnings: %q", len(got), got)
			}
		})
	}
}

// TestAgree: what an invalidator has said that was replaced a moment ago does not
// keep a replay from beginning.
func TestAgree(t *testing.T) {
	server := envtest.Redis(t)
	raw := testenv.OpenRedis(server)
	defer raw.Close()
	redis, err := deleter.New(deleter.Config{Addrs: []string{server.Addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer redis.Close()
	schema, err := keys.Parse("keys.yaml", []byte("version: 1\nkeys: [{name: item, table: shop.item, key: 'item:{id}'}]"))
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Config{Keys: "keys.yaml"}
	c.Source.Name = "agree"
	post := func(schema string, ttl time.Duration) {
		t.Helper()
		turn, err := redis.Turn(t.Context(), "agree", 0, ttl)
		if err == nil {
			err = redis.Post(t.Context(), turn, pipeline.Watermark{Source: "agree", Partitions: 1, Schema: schema})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r := &replaying{app: &App{Config: c, Schema: schema}, redis: redis, live: &liveState{}}
	post("another", 700*time.Millisecond)
	if r.live.invalidators, err = r.invalidators(t.Context()); err != nil || len(r.live.others(schema)) != 1 {
		t.Fatalf("%q, %v", r.live.invalidators, err)
	}
	if err := r.agree(t.Context()); err != nil || len(r.live.invalidators) != 0 {
		t.Errorf("of one that is gone: %v, %q", err, r.live.invalidators)
	}
	post(schema.Hash(), time.Minute)
	if r.live.invalidators, err = r.invalidators(t.Context()); err != nil || r.agree(t.Context()) != nil {
		t.Errorf("of one with the same schema: %q, %v", r.live.invalidators, err)
	}
	post("another", time.Minute)
	began := time.Now()
	r.live.invalidators, _ = r.invalidators(t.Context())
	if err := r.agree(t.Context()); err == nil || !strings.Contains(err.Error(), "(another)") || time.Since(began) < 5*time.Second {
		t.Errorf("of one that stays: %v after %v", err, time.Since(began))
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		says string
	}{
		{nil, 0, ""},
		{errDone, 0, "done already"},
		{problemsError{"one", "two"}, 2, "replay: one\nreplay: two\n"},
		{errNobody, 2, "-yes"},
		{errNo, 1, "answered with no"},
		{context.Canceled, 1, "nothing was deleted"},
		{replay.ErrStopped, 1, "stopped"},
		{fmt.Errorf("%w: %w", errUsage, &pipeline.LogGapError{From: 1, Start: 5}), 3, "is gone"},
		{&pipeline.GapError{Reason: "purged"}, 3, "is gone"},
	} {
		var out strings.Builder
		r := &replaying{args: newReplayArgs(verbLog), stderr: &out}
		if code := r.exit(c.err); code != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("%v: code %d, want %d; it says %q", c.err, code, c.code, out.String())
		}
	}
}

// TestGuideExamples keeps docs/replay.md in step with the arguments.
func TestGuideExamples(t *testing.T) {
	text, err := os.ReadFile("../../../docs/replay.md")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var found int
	for line := range strings.Lines(string(text) + string(readme)) {
		if !strings.HasPrefix(line, "    ") {
			continue
		}
		for _, words := range examples(line) {
			found++
			if _, problems := parseReplay(words, testNow); len(problems) > 0 {
				t.Errorf("%q: %q", line, problems)
			}
		}
	}
	if found < 8 {
		t.Errorf("%d examples were found", found)
	}
}
