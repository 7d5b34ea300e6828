package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

const shop = `
version: 1
keys:
  - {name: item, table: shop.item, key: "item:{id}"}
  - {name: category-items, table: shop.item, key: "category:{category}:items"}
  - {name: cart, table: shop.cart, key: "cart:{id}"}
`

var everyPattern = []string{"cart:*", "category:*:items", "item:*"}

func schema(t testing.TB) *keys.Schema {
	t.Helper()
	s, err := keys.Parse("shop.yaml", []byte(shop))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func number(n int) keys.Value { return keys.Value{Kind: keys.Number, Text: fmt.Sprint(n)} }

// carts returns a piece of a transaction that inserts rows into shop.cart.
func carts(ids ...int) pipeline.Batch {
	t := pipeline.TableRows{DB: "shop", Table: "cart", Columns: []string{"id"}}
	for _, id := range ids {
		t.Rows = append(t.Rows, pipeline.Row{After: []keys.Value{number(id)}})
	}
	return pipeline.Batch{Tables: []pipeline.TableRows{t}}
}

// items returns a piece that moves rows of shop.item to another category.
func items(from, to int, ids ...int) pipeline.Batch {
	t := pipeline.TableRows{DB: "shop", Table: "item", Columns: []string{"id", "category"}}
	for _, id := range ids {
		t.Rows = append(t.Rows, pipeline.Row{
			Before: []keys.Value{number(id), number(from)}, After: []keys.Value{number(id), number(to)},
		})
	}
	return pipeline.Batch{Tables: []pipeline.TableRows{t}}
}

// keysOf returns the keys that row changes make stale. It is the tests' own
// idea of the schema above.
func keysOf(tables []pipeline.TableRows) []string {
	var out []string
	for _, t := range tables {
		for _, r := range t.Rows {
			for _, image := range [][]keys.Value{r.Before, r.After} {
				if image == nil {
					continue
				}
				out = append(out, t.Table+":"+image[0].Text)
				if t.Table == "item" {
					out = append(out, "category:"+image[1].Text+":items")
				}
			}
		}
	}
	return out
}

// bubble runs f in a synctest bubble: sleeps take no time, and a goroutine that
// outlives f fails the test.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// start runs a process and returns the function that stops it.
func start(t *testing.T, run func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

func stopped(t *testing.T, stop func() error) {
	t.Helper()
	if err := stop(); err != nil {
		t.Errorf("stopped with %v", err)
	}
}

var (
	errDead  = errors.New("the process is dead")
	errFlaky = errors.New("out of luck")
)

// life is one run of a process, from its start to its death. Everything that it
// does outside of itself goes through do, and is written into the history.
type life struct {
	proc  int
	h     *history
	kill  context.CancelFunc
	dieAt int        // number of the operation at which it dies; 0: never
	after bool       // it dies after that operation's effect, not before
	flaky *rand.Rand // operations fail now and then; nil: never

	mu   sync.Mutex
	ops  int
	dead bool
}

// do performs an operation: its effect, unless the process is dead. An error may
// hide that there was an effect; where that must not be, clean is set.
func (l *life) do(clean bool, effect func() error) error {
	l.mu.Lock()
	l.ops++
	mine, luck := l.ops == l.dieAt, 1.0
	if l.flaky != nil {
		luck = l.flaky.Float64()
	}
	if mine && !l.after {
		l.die()
	}
	dead := l.dead
	l.mu.Unlock()
	switch {
	case dead:
		return errDead
	case luck < 0.03:
		return errFlaky
	}
	err := effect()
	l.mu.Lock()
	defer l.mu.Unlock()
	if mine {
		l.die()
	}
	switch {
	case l.dead:
		return errDead
	case err == nil && luck < 0.06 && !clean:
		return errFlaky
	}
	return err
}

func (l *life) die() {
	l.dead = true
	l.kill()
}

func (l *life) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

type mortalPublisher struct {
	*life
	pipeline.Publisher
}

func (p mortalPublisher) Publish(ctx context.Context, records []pipeline.Record, done func(error)) error {
	return p.do(true, func() error {
		return p.Publisher.Publish(ctx, records, func(err error) {
			if p.isDead() {
				return
			}
			for _, r := range records {
				p.h.add(entry{kind: durable, proc: p.proc, part: r.Partition, data: r.Data})
			}
			done(err)
		})
	})
}

type mortalPositions struct {
	*life
	pipeline.Positions
}

func (p mortalPositions) Load(ctx context.Context) (c pipeline.Checkpoint, err error) {
	err = p.do(false, func() error {
		c, err = p.Positions.Load(ctx)
		return err
	})
	return c, err
}

func (p mortalPositions) Save(ctx context.Context, c pipeline.Checkpoint) error {
	return p.do(false, func() error {
		p.h.add(entry{kind: saved, proc: p.proc, checkpoint: c})
		return p.Positions.Save(ctx, c)
	})
}

type mortalDeleter struct {
	*life
	pipeline.Deleter
}

func (d mortalDeleter) Delete(ctx context.Context, keys []string) error {
	sent := d.h.add(entry{kind: sent, proc: d.proc})
	err := d.do(false, func() error { return d.Deleter.Delete(ctx, keys) })
	if err == nil {
		d.h.add(entry{kind: deleted, proc: d.proc, sent: sent, keys: append([]string(nil), keys...)})
	}
	return err
}

func (d mortalDeleter) DeletePatterns(ctx context.Context, patterns []string) (n int, err error) {
	sent := d.h.add(entry{kind: sent, proc: d.proc})
	err = d.do(false, func() error {
		n, err = d.Deleter.DeletePatterns(ctx, patterns)
		return err
	})
	if err == nil {
		d.h.add(entry{kind: deleted, proc: d.proc, sent: sent, patterns: append([]string(nil), patterns...)})
	}
	return n, err
}

type mortalConsumer struct {
	*life
	pipeline.Consumer
}

func (c mortalConsumer) Run(ctx context.Context, own func(context.Context, pipeline.Partition) error) error {
	return c.Consumer.Run(ctx, func(ctx context.Context, p pipeline.Partition) error {
		m := mortalPartition{c.life, p}
		cursors, _ := p.Cursors() // what an earlier owner has handled is visible now
		c.h.add(entry{kind: read, proc: c.proc, part: m.index(), next: cursors.First})
		return own(ctx, m)
	})
}

type mortalPartition struct {
	*life
	pipeline.Partition
}

func (p mortalPartition) index() (i int) {
	if _, err := fmt.Sscanf(strings.TrimPrefix(p.Name(), "test/"), "%d", &i); err != nil {
		panic(err)
	}
	return i
}

func (p mortalPartition) Read(ctx context.Context, from int64) (f pipeline.Fetch, err error) {
	err = p.do(false, func() error {
		f, err = p.Partition.Read(ctx, from)
		return err
	})
	if err == nil {
		p.h.add(entry{kind: read, proc: p.proc, part: p.index(), from: from, next: f.Next})
	}
	return f, err
}

func (p mortalPartition) Store(ctx context.Context, c pipeline.Cursors) error {
	return p.do(false, func() error {
		err := p.Partition.Store(ctx, c)
		if err == nil {
			p.h.add(entry{kind: stored, proc: p.proc, part: p.index(), cursors: c})
		}
		return err
	})
}
