package replay_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

const itemSchema = `
version: 1
keys:
  - {name: item, table: shop.item, key: "item:{id}"}
`

// walk is a source of rows in chunks, as a table's; a cursor is the next id.
type walk struct{ rows, chunk int }

func (walk) Plan(context.Context) (replay.Plan, error) { return replay.Plan{}, nil }

func (w walk) Read(ctx context.Context, from replay.Cursor, fn func(context.Context, replay.Chunk) error) error {
	id := 0
	if from != "" {
		id, _ = strconv.Atoi(string(from))
	}
	for id < w.rows {
		t := pipeline.TableRows{DB: "shop", Table: "item", Columns: []string{"id"}}
		for range min(w.chunk, w.rows-id) {
			t.Rows = append(t.Rows, pipeline.Row{After: []keys.Value{{Kind: keys.Number, Text: strconv.Itoa(id)}}})
			id++
		}
		c := replay.Chunk{
			Rows: int64(len(t.Rows)), Next: replay.Cursor(strconv.Itoa(id)), Done: float64(id) / float64(w.rows),
			Events: []pipeline.Event{{Kind: pipeline.KindChanges, Source: "shop", GTID: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9", Tables: []pipeline.TableRows{t}}},
		}
		if err := fn(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// told calls its function when a part of a chunk is in the log.
type told struct {
	replay.Target
	published func()
}

func (t told) Publish(ctx context.Context, events []pipeline.Event) error {
	err := t.Target.Publish(ctx, events)
	t.published()
	return err
}

// run replays into an embedded log, whose passes are of no interest here. step is
// called when a part of a chunk was published, and when a chunk was stored.
func run(ctx context.Context, dir string, w walk, step func()) (replay.Summary, error) {
	schema, err := keys.Parse("keys.yaml", []byte(itemSchema))
	if err != nil {
		return replay.Summary{}, err
	}
	log, err := bus.OpenEmbedded(bus.EmbeddedConfig{Dir: filepath.Join(dir, "log")})
	if err != nil {
		return replay.Summary{}, err
	}
	defer func() { _ = log.Close() }()
	state, err := replay.ResumeState(filepath.Join(dir, "replay"))
	if err != nil {
		return replay.Summary{}, err
	}
	defer func() { _ = state.Close() }()
	target := replay.NewTarget(log.Publisher(), func(context.Context) (replay.Backlog, error) { return replay.Backlog{}, nil })
	r := &replay.Run{
		Source: w, State: state, Schema: schema, ChunkDone: func(replay.Chunk) { step() }, Target: told{target, step},
	}
	return r.Do(ctx)
}

func create(t testing.TB, dir string) {
	t.Helper()
	s, err := replay.CreateState(filepath.Join(dir, "replay"), replay.Job{Kind: "table", Fixed: json.RawMessage(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

var killed = walk{rows: 120_000, chunk: 3000} // each chunk in three parts

// TestMain is also the process that TestKilledForReal kills: it says when it
// has done something, and goes on until it is killed or finished.
func TestMain(m *testing.M) {
	dir := os.Getenv("REPLAY_KILL_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	if _, err := run(context.Background(), dir, killed, func() { fmt.Println("step") }); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestKilledForReal: kill -9 ten times in the middle costs at most ten chunks, and
// every row is in the log.
func TestKilledForReal(t *testing.T) {
	dir := t.TempDir()
	create(t, dir)
	const kills = 10
	for range kills {
		killAfter(t, dir, 1+rand.IntN(12))
	}
	sum, err := run(t.Context(), dir, killed, func() {})
	if err != nil {
		t.Fatal(err)
	}
	log, err := bus.OpenEmbedded(bus.EmbeddedConfig{Dir: filepath.Join(dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	times := map[string]int{}
	for from, end := log.Bounds(); from < end; {
		msgs, err := log.ReadAt(from)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range msgs {
			from = m.Offset + 1
			e, err := pipeline.DecodeEvent(m.Data)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range e.Tables[0].Rows {
				times[r.After[0].Text]++
			}
		}
	}
	again := 0
	for id := range killed.rows {
		n := times[strconv.Itoa(id)]
		if n == 0 {
			t.Fatalf("row %d was left out", id)
		}
		again += n - 1
	}
	t.Logf("%d kills, %d of %d rows again, at most %d chunks", kills, again, killed.rows, sum.ChunksRedone)
	if again > kills*killed.chunk || sum.ChunksRedone != kills || sum.Rows != int64(killed.rows) {
		t.Errorf("%d rows again after %d kills: %+v", again, kills, sum)
	}
}

// killAfter runs a process and kills it when it has made a number of steps.
func killAfter(t *testing.T, dir string, steps int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "REPLAY_KILL_DIR="+dir)
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	n := 0
	for n < steps && lines.Scan() {
		n++
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // "killed"
	if n < steps {
		t.Fatalf("the process ended after %d steps: %s", n, problems.String())
	}
}

// BenchmarkRun replays rows into an embedded log on this disk: what the core can
// do, without a database and without deletes.
func BenchmarkRun(b *testing.B) {
	w := walk{rows: 1_000_000, chunk: 5000}
	for b.Loop() {
		dir := b.TempDir()
		create(b, dir)
		sum, err := run(b.Context(), dir, w, func() {})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(sum.KeysPerSecond, "keys/s")
	}
}
