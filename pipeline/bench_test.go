package pipeline_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

const fill = 10 * time.Second

// bench is an invalidator of one partition between fakes.
type bench struct {
	*pipeline.Invalidator
	t     *testing.T
	log   *pipelinetest.Log
	redis *pipelinetest.Redis
	began time.Time

	mu      sync.Mutex
	calls   []string // "0s cart:1", with the time since the start
	reads   int
	fail    func(c pipelinetest.DeleteCall) error
	refuse  map[string]int // failures to come of an operation of the log
	deleted []pipeline.DeletedInfo
	over    []pipeline.OverInfo
	stored  []pipeline.Cursors
	retries int
	differs []string
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, log: pipelinetest.NewLog(1), redis: pipelinetest.NewRedis(), began: time.Now(), refuse: map[string]int{}}
	b.redis.Inject(func(_ context.Context, c pipelinetest.DeleteCall) error {
		b.mu.Lock()
		fail := b.fail
		b.mu.Unlock()
		if fail != nil {
			if err := fail(c); err != nil {
				return err
			}
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.calls = append(b.calls, fmt.Sprintf("%v %s", time.Since(b.began).Round(time.Second), strings.Join(append(c.Keys, c.Patterns...), " ")))
		return nil
	})
	b.log.Fail = func(op string) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if op == "read" {
			b.reads++
		}
		if b.refuse[op]--; b.refuse[op] >= 0 {
			return errFlaky
		}
		return nil
	}
	b.Invalidator = &pipeline.Invalidator{
		Schema: schema(t), Deleter: b.redis, DeadLetters: b.log.DeadLetters(), Fill: fill,
		Hooks: pipeline.Hooks{
			Deleted:         func(d pipeline.DeletedInfo) { lock(b, func() { b.deleted = append(b.deleted, d) }) },
			OverInvalidated: func(o pipeline.OverInfo) { lock(b, func() { b.over = append(b.over, o) }) },
			Stored:          func(_ string, c pipeline.Cursors) { lock(b, func() { b.stored = append(b.stored, c) }) },
			Retry:           func(string, int, error, time.Duration) { lock(b, func() { b.retries++ }) },
			SchemaDiffers:   func(hash string) { lock(b, func() { b.differs = append(b.differs, hash) }) },
		},
	}
	return b
}

func lock(b *bench, f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *bench) start() (stop func() error) {
	return start(b.t, func(ctx context.Context) error { return b.Run(ctx, b.log.Consumer()) })
}

// change appends an event of rows of shop.cart.
func (b *bench) change(ids ...int) {
	var rows []string
	for _, id := range ids {
		rows = append(rows, fmt.Sprintf(`{"after":[%d]}`, id))
	}
	b.event(fmt.Sprintf(`"kind":"changes","tables":[{"db":"shop","table":"cart","columns":["id"],"rows":[%s]}]`, strings.Join(rows, ",")))
}

func (b *bench) event(body string) {
	b.log.Append(0, fmt.Appendf(nil, `{"v":1,"schema":%q,%s}`, b.Schema.Hash(), body))
}

// after lets time pass until d after the start.
func (b *bench) after(d time.Duration) {
	time.Sleep(d - time.Since(b.began))
	synctest.Wait()
}

func (b *bench) wantCalls(want ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.calls, want) {
		b.t.Errorf("Redis was asked for\n%q, want\n%q", b.calls, want)
	}
}

func (b *bench) wantCursors(first, second int64) {
	b.t.Helper()
	if c, ok := b.log.Cursors(0); !ok || c != (pipeline.Cursors{First: first, Second: second}) {
		b.t.Errorf("stored %+v, %v, want %d and %d", c, ok, first, second)
	}
}
