package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// parse reads a schema of rules, each in YAML's flow form.
func parse(t testing.TB, rules ...string) *keys.Schema {
	t.Helper()
	text := "version: 1\nkeys:\n"
	for _, r := range rules {
		text += "  - " + r + "\n"
	}
	s, err := keys.Parse("keys.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const itemRule = `{name: item, table: shop.item, key: "item:{id}"}`

// items is a chunk of rows of shop.item, with the set of what the source showed.
func items(gtid string, ids ...int) pipeline.Event {
	t := pipeline.TableRows{DB: "shop", Table: "item", Columns: []string{"id"}}
	for _, id := range ids {
		t.Rows = append(t.Rows, pipeline.Row{After: []keys.Value{{Kind: keys.Number, Text: strconv.Itoa(id)}}})
	}
	return pipeline.Event{Version: pipeline.Version, Kind: pipeline.KindChanges, Source: "shop", GTID: gtid, Tables: []pipeline.TableRows{t}}
}

const uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

// life is a process that dies at an operation: before or after its effect. Nothing
// that it does afterwards has one.
type life struct {
	mu    sync.Mutex
	ops   int
	dieAt int // 0: never
	after bool
	dead  bool
	kill  func()
	at    func(op int) // called at each operation
}

var errDead = errors.New("the process is dead")

func (l *life) do(effect func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return errDead
	}
	l.ops++
	if l.at != nil {
		l.at(l.ops)
	}
	dies := l.ops == l.dieAt
	if dies {
		l.dead = true
		defer l.kill()
		if !l.after {
			return errDead
		}
	}
	if err := effect(); err != nil {
		return err
	}
	if dies {
		return errDead
	}
	return nil
}

// chunksSource is a source of given chunks; a cursor is the number of the next one.
type chunksSource struct {
	l      *life
	chunks []Chunk
}

func (s *chunksSource) Plan(context.Context) (Plan, error) {
	return Plan{Fixed: json.RawMessage(`{}`)}, nil
}

func (s *chunksSource) Read(ctx context.Context, from Cursor, fn func(context.Context, Chunk) error) error {
	i := 0
	if from != "" {
		i, _ = strconv.Atoi(string(from))
	}
	for ; i < len(s.chunks); i++ {
		if err := s.l.do(func() error { return nil }); err != nil {
			return err
		}
		c := s.chunks[i]
		c.Next, c.Done = Cursor(strconv.Itoa(i+1)), float64(i+1)/float64(len(s.chunks))
		if err := fn(ctx, c); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// memoryTarget remembers what was published. Its passes handle a call's events
// between two questions for the backlog.
type memoryTarget struct {
	l         *life
	published *[][]pipeline.Event
	behind    *int64
}

func (m memoryTarget) Publish(_ context.Context, events []pipeline.Event) error {
	return m.l.do(func() error {
		*m.published = append(*m.published, slices.Clone(events))
		*m.behind = 2
		return nil
	})
}

func (m memoryTarget) Backlog(context.Context) (b Backlog, err error) {
	err = m.l.do(func() error {
		b = Backlog{First: max(*m.behind-1, 0), Second: *m.behind}
		*m.behind = max(*m.behind-1, 0)
		return nil
	})
	return b, err
}

// world is what outlives the processes of a replay.
type world struct {
	t         *testing.T
	dir       string
	schema    *keys.Schema
	old       *keys.Schema
	sweepOld  []pipeline.Scope
	chunks    []Chunk
	published [][]pipeline.Event
	behind    int64
}

func newWorld(t *testing.T, chunks int) *world {
	w := &world{t: t, dir: t.TempDir(), schema: parse(t, itemRule)}
	for i := range chunks {
		c := Chunk{Rows: 3}
		if i%4 != 2 { // some chunks have nothing to say
			c.Events = []pipeline.Event{items(uuid+":1-"+strconv.Itoa(i+1), 3*i, 3*i+1, 3*i+2)}
		}
		w.chunks = append(w.chunks, c)
	}
	s, err := CreateState(w.dir, Job{Kind: "table", Fixed: json.RawMessage(`{"table":"shop.item"}`), Rows: int64(3 * chunks)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

// live runs one process on the replay.
func (w *world) live(ctx context.Context, l *life) (Summary, error) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.kill = cancel
	s, err := ResumeState(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	s.write = func(path string, data []byte) error {
		return l.do(func() error { return os.WriteFile(path, data, 0o600) })
	}
	r := &Run{
		Source: &chunksSource{l, w.chunks}, Target: memoryTarget{l, &w.published, &w.behind}, State: s,
		Schema: w.schema, Old: w.old, SweepOld: w.sweepOld,
	}
	sum, err := r.Do(ctx)
	for _, events := range w.published {
		for _, e := range events {
			if e.KeysBy != w.schema.Hash() {
				w.t.Errorf("an event of kind %s says that its keys are made by %q", e.Kind, e.KeysBy)
			}
		}
	}
	if err := s.Close(); err != nil {
		w.t.Fatal(err)
	}
	return sum, err
}

// said returns how many chunks have something to say.
func (w *world) said() (n int) {
	for _, c := range w.chunks {
		if len(c.Events) > 0 {
			n++
		}
	}
	return n
}

// check compares what was published with what the chunks hold, and says how many
// were published more than once.
func (w *world) check() (redone int) {
	w.t.Helper()
	times := map[string]int{}
	for _, events := range w.published {
		times[fmt.Sprint(events)]++
	}
	for i, c := range w.chunks {
		if len(c.Events) == 0 {
			continue
		}
		n := times[fmt.Sprint(c.Events)]
		if n == 0 {
			w.t.Errorf("chunk %d was left out", i)
		}
		redone += n - 1
	}
	return redone
}
