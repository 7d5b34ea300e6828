package pipelinetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// WatermarksUnderTest is a pipeline.Watermarks and a second way to what it shows.
type WatermarksUnderTest struct {
	Watermarks pipeline.Watermarks
	// Read returns what is shown of a partition, and for how much longer it is
	// trusted: 0 if it is not. Where nothing was posted both are zero; where it is
	// not trusted it may leave out all but the sets.
	Read func(ctx context.Context, source string, partition int) (w pipeline.Watermark, trusted time.Duration, err error)
}

// RunWatermarks checks the contract of pipeline.Watermarks. setup returns one on
// which nothing was posted yet; it is called once for each subtest.
func RunWatermarks(t *testing.T, setup func(t *testing.T) WatermarksUnderTest) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, w watermarksCase)
	}{
		{"Posts", testPosts},
		{"NewerTurn", testNewerTurn},
		{"TurnRunsOut", testTurnRunsOut},
		{"TrustIsOfTheTurn", testTrustIsOfTheTurn},
		{"Cancelled", testTurnCancelled},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, watermarksCase{setup(t)}) })
	}
}

type watermarksCase struct{ WatermarksUnderTest }

func (c watermarksCase) turn(t *testing.T, partition int, d time.Duration) pipeline.Turn {
	t.Helper()
	turn, err := c.Watermarks.Turn(t.Context(), "shop", partition, d)
	if err != nil {
		t.Fatal("turn:", err)
	}
	return turn
}

func mark(partition int, first string) pipeline.Watermark {
	return pipeline.Watermark{Source: "shop", Partition: partition, Partitions: 8, First: first}
}

// post wants a post to succeed, or to be refused.
func (c watermarksCase) post(t *testing.T, turn pipeline.Turn, w pipeline.Watermark, refused bool) {
	t.Helper()
	err := c.Watermarks.Post(t.Context(), turn, w)
	if refused && !errors.Is(err, pipeline.ErrTurnOver) || !refused && err != nil {
		t.Errorf("post %q: %v; refused: %v", w.First, err, refused)
	}
}

// want checks what is shown, and whether it is trusted.
func (c watermarksCase) want(t *testing.T, partition int, first string, trusted bool) {
	t.Helper()
	w, left, err := c.Read(t.Context(), "shop", partition)
	if err != nil {
		t.Fatal("read:", err)
	}
	if w.First != first || left > 0 != trusted {
		t.Errorf("partition %d: %q is shown, trusted for %v; want %q, %v", partition, w.First, left, first, trusted)
	}
}

func testPosts(t *testing.T, c watermarksCase) {
	c.want(t, 0, "", false)
	zero, seven := c.turn(t, 0, time.Hour), c.turn(t, 7, time.Hour)
	c.want(t, 0, "", false)
	c.post(t, zero, mark(0, "a"), false)
	c.post(t, seven, mark(7, "b"), false)
	c.want(t, 0, "a", true)
	c.want(t, 7, "b", true)
	c.post(t, zero, mark(0, "a second post of one turn"), true)
	c.post(t, c.turn(t, 0, time.Hour), mark(0, "c"), false)
	c.want(t, 0, "c", true)
	c.want(t, 7, "b", true)
}

func testNewerTurn(t *testing.T, c watermarksCase) {
	old := c.turn(t, 0, time.Hour)
	other := c.turn(t, 1, time.Hour)
	c.post(t, "", mark(0, "without a turn"), true)
	c.post(t, other, mark(0, "in another partition's turn"), true)
	now := c.turn(t, 0, time.Hour)
	c.post(t, old, mark(0, "before the newer one"), true)
	c.want(t, 0, "", false)
	c.post(t, now, mark(0, "a"), false)
	c.post(t, old, mark(0, "behind the newer one"), true)
	c.want(t, 0, "a", true)
	c.post(t, other, mark(1, "b"), false)
}

// Once trust has ended, nothing that is left over brings it back.
func testTurnRunsOut(t *testing.T, c watermarksCase) {
	const d = 300 * time.Millisecond
	c.post(t, c.turn(t, 0, d), mark(0, "a"), false)
	late := c.turn(t, 0, d)
	c.until(t, func(_ pipeline.Watermark, left time.Duration) bool { return left == 0 }) // sooner than late
	time.Sleep(d)                                                                        // nothing shows the end of a turn
	c.post(t, late, mark(0, "too late"), true)
	c.want(t, 0, "a", false)
	c.post(t, c.turn(t, 0, time.Hour), mark(0, "b"), false)
	c.want(t, 0, "b", true)
}

// What was posted late in a turn is trusted until the turn would have ended.
func testTrustIsOfTheTurn(t *testing.T, c watermarksCase) {
	turn := c.turn(t, 0, time.Minute)
	began := time.Now()
	time.Sleep(50 * time.Millisecond) // the turn's time goes by
	spent := time.Since(began)
	c.post(t, turn, mark(0, "a"), false)
	// A clock of milliseconds may be off by one at either end.
	if _, left, err := c.Read(t.Context(), "shop", 0); err != nil || left > time.Minute-spent+2*time.Millisecond || left < 30*time.Second {
		t.Errorf("trusted for %v, %v, %v after the turn of a minute began", left, err, spent)
	}
}

func (c watermarksCase) until(t *testing.T, ok func(w pipeline.Watermark, left time.Duration) bool) {
	t.Helper()
	for {
		w, left, err := c.Read(t.Context(), "shop", 0)
		if err != nil {
			t.Fatal("read:", err)
		}
		if ok(w, left) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func testTurnCancelled(t *testing.T, c watermarksCase) {
	turn := c.turn(t, 0, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Watermarks.Post(ctx, turn, mark(0, "a")); !errors.Is(err, context.Canceled) {
		t.Error("post:", err)
	}
	if _, err := c.Watermarks.Turn(ctx, "shop", 0, time.Hour); !errors.Is(err, context.Canceled) {
		t.Error("turn:", err)
	}
	c.want(t, 0, "", false)
	c.post(t, turn, mark(0, "a"), false)
}
