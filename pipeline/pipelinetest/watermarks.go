package pipelinetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Board is a pipeline.Watermarks in memory. It starts no goroutines, so that it may
// be used in a synctest bubble. It is safe for concurrent use; the zero value is
// empty.
type Board struct {
	mu     sync.Mutex
	begun  int // turns
	places map[place]*posted
	posts  []pipeline.Watermark // all that were shown, in order
	err    error
	hold   bool
	held   []func() error
	inject func()
}

// place is a partition of a source.
type place struct {
	source    string
	partition int
}

// posted is what the board has of a place.
type posted struct {
	turn   pipeline.Turn
	turnTo time.Time
	shown  pipeline.Watermark
	to     time.Time // trusted until then
}

func (b *Board) at(source string, partition int) *posted {
	if b.places == nil {
		b.places = map[place]*posted{}
	}
	p := place{source, partition}
	if b.places[p] == nil {
		b.places[p] = &posted{}
	}
	return b.places[p]
}

// Turn implements pipeline.Watermarks.
func (b *Board) Turn(ctx context.Context, source string, partition int, d time.Duration) (pipeline.Turn, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	turn, inject, err := b.begin(source, partition, d)
	if err == nil && inject != nil {
		inject()
	}
	return turn, err
}

func (b *Board) begin(source string, partition int, d time.Duration) (pipeline.Turn, func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return "", nil, b.err
	}
	b.begun++
	p := b.at(source, partition)
	p.turn, p.turnTo = pipeline.Turn(fmt.Sprint("turn ", b.begun)), time.Now().Add(d)
	return p.turn, b.inject, nil
}

// Post implements pipeline.Watermarks.
func (b *Board) Post(ctx context.Context, t pipeline.Turn, w pipeline.Watermark) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	if b.hold {
		b.held = append(b.held, func() error { return b.post(t, w) })
		b.mu.Unlock()
		<-ctx.Done()
		return ctx.Err()
	}
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	return b.post(t, w)
}

func (b *Board) post(t pipeline.Turn, w pipeline.Watermark) error {
	p := b.at(w.Source, w.Partition)
	if t == "" || p.turn != t || !time.Now().Before(p.turnTo) {
		return fmt.Errorf("post on the board: %w", pipeline.ErrTurnOver)
	}
	p.turn, p.shown, p.to = "", w, p.turnTo
	b.posts = append(b.posts, w)
	return nil
}

// Fail makes every call fail with err, until Fail(nil).
func (b *Board) Fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// Hold makes posts hang from now on, as where Redis does not answer: each is kept
// until Release. Hold(false) lets later ones through.
func (b *Board) Hold(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hold = on
}

// Release carries out the posts that were kept, late, and returns what became of
// each. Their callers do not learn it.
func (b *Board) Release() (errs []error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, post := range b.held {
		errs = append(errs, post())
	}
	b.held = nil
	return errs
}

// AtTurn has f called, without a lock held, when a turn has begun and before its
// taker learns that. It may sleep, as the way back from Redis may take long.
func (b *Board) AtTurn(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inject = f
}

// Posts returns all watermarks that were shown, in order.
func (b *Board) Posts() []pipeline.Watermark {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]pipeline.Watermark{}, b.posts...)
}

// Last returns the newest that was shown, or the zero one.
func (b *Board) Last() (w pipeline.Watermark) {
	if all := b.Posts(); len(all) > 0 {
		w = all[len(all)-1]
	}
	return w
}

// Read returns what is shown of a partition, and until when it is trusted.
func (b *Board) Read(source string, partition int) (w pipeline.Watermark, trusted time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.at(source, partition)
	return p.shown, p.to
}
