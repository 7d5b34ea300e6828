package pipeline_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// theirs makes other keys of the tables than shop does.
const theirs = `{version: 1, keys: [{name: cart, table: shop.cart, key: "basket:{id}"}, {name: order, table: shop.order, key: "order:{id}"}]}`

// mixed is a bench of a log of replays of which some records are for another schema.
type mixed struct {
	*bench
	mine, theirs *keys.Schema
	held         []pipeline.OtherSchemaInfo
}

func newMixed(t *testing.T) *mixed {
	m := &mixed{bench: newBench(t)}
	var err error
	if m.theirs, err = keys.Parse("theirs.yaml", []byte(theirs)); err != nil {
		t.Fatal(err)
	}
	m.mine, m.Replays = m.Schema, true
	m.Hooks.OtherSchema = func(i pipeline.OtherSchemaInfo) { lock(m.bench, func() { m.held = append(m.held, i) }) }
	return m
}

// replayed appends a row of a table, for the keys of a schema.
func (m *mixed) replayed(s *keys.Schema, table string, id int) {
	m.event(fmt.Sprintf(`"keys_by":%q,"gtid":"","kind":"changes","tables":[{"db":"shop","table":%q,"columns":["id"],"rows":[{"after":[%d]}]}]`, s.Hash(), table, id))
}

// as runs an invalidator with a schema from now on.
func (m *mixed) as(s *keys.Schema) (stop func() error) {
	inv := &pipeline.Invalidator{
		Schema: s, Deleter: m.Deleter, DeadLetters: m.DeadLetters, Fill: m.Fill, Hooks: m.Hooks, Replays: true, Memory: m.Memory,
	}
	return start(m.t, func(ctx context.Context) error { return inv.Run(ctx, m.log.Consumer()) })
}

func (m *mixed) wantCursors(first, second int64) {
	m.t.Helper()
	if c, ok := m.log.Cursors(0); !ok || c.First != first || c.Second != second {
		m.t.Errorf("stored %+v, %v, want %d and %d", c, ok, first, second)
	}
}

// wantCalls does not ask for the order: sweeps run beside the passes.
func (m *mixed) wantCalls(want ...string) {
	m.t.Helper()
	lock(m.bench, func() { slices.Sort(m.calls) })
	slices.Sort(want)
	m.bench.wantCalls(want...)
}

// wantLetters wants dead letters of records for the other schema, some perhaps twice.
func (m *mixed) wantLetters(offsets ...int64) {
	m.t.Helper()
	var got []int64
	for _, l := range m.log.Dead() {
		got = append(got, l.Offset)
		if l.Schema != m.mine.Hash() || !strings.Contains(l.Reason, m.mine.Hash()) || !strings.Contains(l.Reason, m.theirs.Hash()) {
			m.t.Errorf("dead letter of %d: %s", l.Offset, l.Reason)
		}
	}
	if got = slices.Compact(got); !slices.Equal(got, offsets) {
		m.t.Errorf("dead letters of %d, want %d", got, offsets)
	}
}

// A replayed record for another schema is held back for a minute, and nothing before
// it. Then all that could be meant is deleted, twice, and the record is kept. Those
// that follow are not held back again.
func TestOtherSchema(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMixed(t)
		stop := m.start()
		m.replayed(m.mine, "cart", 1)
		m.replayed(m.theirs, "cart", 2)
		m.replayed(m.theirs, "order", 3) // no rule here is about it
		m.replayed(m.mine, "cart", 4)
		m.after(59 * time.Second)
		m.wantCalls("0s cart:1", "10s cart:1")
		m.wantCursors(1, 1)
		m.wantLetters()
		lock(m.bench, func() {
			if len(m.held) != 1 || !m.held[0].Held || m.held[0].Schema != m.theirs.Hash() || m.held[0].For != time.Minute {
				t.Errorf("held back: %+v", m.held)
			}
		})
		m.after(90 * time.Second)
		m.wantCalls("0s cart:1", "10s cart:1", "1m0s cart:4", "1m0s cart:*", "1m10s cart:4", "1m10s cart:*")
		m.wantCursors(4, 4)
		m.wantLetters(1, 2)
		if len(m.held) != 2 || m.held[1].Held || len(m.over) != 1 || m.over[0].Scope != pipeline.TableScope("shop", "cart") {
			t.Errorf("held back %+v, over-invalidated %+v", m.held, m.over)
		}
		m.replayed(m.theirs, "cart", 5)
		m.after(100 * time.Second)
		m.wantLetters(1, 2, 4)
		m.after(300 * time.Second) // another roll-out
		m.replayed(m.theirs, "cart", 6)
		m.after(330 * time.Second)
		m.wantLetters(1, 2, 4)
		m.after(400 * time.Second)
		m.wantLetters(1, 2, 4, 5)
		m.wantCursors(6, 6)
		stopped(t, stop)
	})
}

// Whole tables are those of a schema's rules, too. Keys that come as such need none,
// and neither does what no replay has published.
func TestOtherSchemaByKind(t *testing.T) {
	for _, c := range []struct {
		name, body string
		calls      []string
		letters    []int64
	}{
		{"keys", `"keys_by":"%s","kind":"keys","keys":["old:1"]`, []string{"0s old:1", "10s old:1"}, nil},
		{"tables", `"keys_by":"%s","kind":"invalidate","scopes":[{"db":"shop","table":"cart"}],"reason":"TRUNCATE"`, []string{"1m0s cart:*", "1m10s cart:*"}, []int64{0}},
		{"not of a replay", `"kind":"changes","gtid":"%s","tables":[{"db":"shop","table":"cart","columns":["id"],"rows":[{"after":[1]}]}]`, []string{"0s cart:1", "10s cart:1"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newMixed(t)
				m.log.Append(0, fmt.Appendf(nil, `{"v":1,"schema":%q,`+c.body+"}", m.theirs.Hash(), m.theirs.Hash()))
				stop := m.start()
				m.after(2 * time.Minute)
				m.wantCalls(c.calls...)
				m.wantLetters(c.letters...)
				m.wantCursors(1, 1)
				stopped(t, stop)
			})
		})
	}
}

// While a roll-out is under way the partition goes to a process that can make the
// keys: then nothing else is deleted, and nothing is kept.
func TestOtherSchemaMoves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMixed(t)
		m.replayed(m.theirs, "cart", 2)
		stop := m.start()
		m.after(30 * time.Second)
		stopped(t, stop)
		stop = m.as(m.theirs)
		m.after(90 * time.Second)
		m.wantCalls("30s basket:2", "40s basket:2")
		m.wantLetters()
		m.wantCursors(1, 1)
		if len(m.held) != 2 || m.held[1].Held {
			t.Errorf("held back: %+v", m.held)
		}
		stopped(t, stop)
	})
}

// A partition that comes after its first deletes were made by the right schema owes
// second ones that this process cannot make.
func TestOtherSchemaOwesTheSecond(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMixed(t)
		m.replayed(m.theirs, "cart", 1)
		m.replayed(m.theirs, "cart", 2)
		stop := m.as(m.theirs)
		m.after(5 * time.Second)
		stopped(t, stop)
		m.wantCursors(2, 0)
		stop = m.start()
		m.replayed(m.mine, "cart", 3) // its first delete waits for nobody
		m.after(60 * time.Second)
		m.wantCursors(3, 0)
		m.after(2 * time.Minute)
		m.wantCalls("0s basket:1 basket:2", "5s cart:3", "1m5s cart:*", "1m5s cart:3")
		m.wantLetters(0, 1)
		if len(m.over) != 2 {
			t.Errorf("over-invalidated %+v", m.over)
		}
		m.wantCursors(3, 3)
		stopped(t, stop)
	})
}

// What nobody here can decode is told with the schema by which everything was
// deleted, by each process that had a pass over it: it may have been for another one.
func TestOtherSchemaOfWhatIsNotDecoded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMixed(t)
		m.log.Append(0, []byte(`{"v":2}`))
		stop := m.as(m.theirs)
		m.after(5 * time.Second)
		stopped(t, stop)
		stop = m.start()
		m.after(time.Minute)
		m.wantCursors(1, 1)
		var by []string
		for _, l := range m.log.Dead() {
			by = append(by, l.Schema)
		}
		if !slices.Equal(by, []string{m.theirs.Hash(), m.mine.Hash()}) || len(m.held) != 0 {
			t.Errorf("dead letters by %q, held back %+v", by, m.held)
		}
		stopped(t, stop)
	})
}

// Partitions that come and go, as in a group with a member that keeps dying, are held
// back no longer than others.
func TestOtherSchemaBesideRebalances(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMixed(t)
		m.replayed(m.theirs, "cart", 1)
		stop := m.start()
		for i := range 8 {
			m.after(time.Duration(10*i+5) * time.Second)
			m.log.Rebalance()
		}
		m.after(2 * time.Minute)
		m.wantLetters(0)
		m.wantCursors(1, 1)
		stopped(t, stop)
	})
}

// lettersOf are dead letters that a process writes which may die.
type lettersOf struct {
	*life
	pipeline.DeadLetters
}

func (l lettersOf) Add(ctx context.Context, d pipeline.DeadLetter) error {
	return l.do(false, func() error { return l.DeadLetters.Add(ctx, d) })
}

// TestOtherSchemaKilled stops the process at each thing that it does, before and
// after. No cursor passes a record for another schema that is not kept, or whose
// table was not swept, by the first pass once and by the second twice.
func TestOtherSchemaKilled(t *testing.T) {
	for _, after := range []bool{false, true} {
		n := 1
		for reached := true; reached && !t.Failed(); n++ {
			bubble(t, func(t *testing.T) {
				m := newMixed(t)
				for id := range 3 {
					m.replayed(m.theirs, "cart", id)
					m.replayed(m.mine, "cart", 10+id)
				}
				m.Hooks.Stored = func(_ string, c pipeline.Cursors) { m.covered(c) }
				reached = m.live(n, after) >= n
				m.live(0, after)
				m.wantCursors(6, 6)
			})
		}
		if n < 10 {
			t.Errorf("only %d operations: nothing was shown", n)
		}
	}
}

// live runs a process until it dies or has had time for everything.
func (m *mixed) live(dieAt int, after bool) (ops int) {
	ctx, cancel := context.WithCancel(m.t.Context())
	defer cancel()
	l := &life{h: &history{fill: fill, expected: map[string][]string{}}, kill: cancel, dieAt: dieAt, after: after}
	inv := &pipeline.Invalidator{
		Schema: m.mine, Deleter: mortalDeleter{l, m.redis}, DeadLetters: lettersOf{l, m.log.DeadLetters()},
		Fill: fill, Hooks: m.Hooks, Replays: true, Memory: 1, // each second delete reads again
	}
	done := make(chan error, 1)
	go func() { done <- inv.Run(ctx, mortalConsumer{l, m.log.Consumer()}) }()
	select {
	case <-ctx.Done():
	case <-time.After(3 * time.Minute):
	}
	cancel()
	if err := <-done; err != nil {
		m.t.Errorf("the invalidator: %v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ops
}

// covered says whether cursors may be stored.
func (m *mixed) covered(c pipeline.Cursors) {
	kept := map[int64]bool{}
	for _, l := range m.log.Dead() {
		kept[l.Offset] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	sweeps := 0
	for _, call := range m.calls {
		if strings.HasSuffix(call, "cart:*") {
			sweeps++
		}
	}
	for offset := int64(0); offset < c.First; offset += 2 {
		if !kept[offset] || sweeps < 1 || offset < c.Second && sweeps < 2 {
			m.t.Errorf("cursors %+v are stored after %d sweeps and with dead letters of %v", c, sweeps, kept)
		}
	}
}
