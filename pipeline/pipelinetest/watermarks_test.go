package pipelinetest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

func TestBoard(t *testing.T) {
	RunWatermarks(t, func(*testing.T) WatermarksUnderTest {
		b := new(Board)
		return WatermarksUnderTest{
			Watermarks: b,
			Read: func(_ context.Context, source string, partition int) (pipeline.Watermark, time.Duration, error) {
				w, trusted := b.Read(source, partition)
				return w, max(0, time.Until(trusted)), nil
			},
		}
	})
}

func TestBoardFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(Board)
		boom := errors.New("boom")
		turn := func() pipeline.Turn {
			t.Helper()
			turn, err := b.Turn(t.Context(), "shop", 0, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			return turn
		}
		first := turn()
		b.Fail(boom)
		if _, err := b.Turn(t.Context(), "shop", 0, time.Minute); err != boom {
			t.Error(err)
		}
		if err := b.Post(t.Context(), first, mark(0, "a")); err != boom {
			t.Error(err)
		}
		b.Fail(nil)
		b.Hold(true)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := b.Post(ctx, first, mark(0, "a")); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if len(b.Posts()) > 0 {
			t.Errorf("shown while held: %+v", b.Posts())
		}
		b.Hold(false)
		if errs := b.Release(); len(errs) != 1 || errs[0] != nil || b.Last().First != "a" {
			t.Errorf("released: %v, %+v", errs, b.Posts())
		}
		b.AtTurn(func() { time.Sleep(time.Hour) })
		if err := b.Post(t.Context(), turn(), mark(0, "b")); !errors.Is(err, pipeline.ErrTurnOver) {
			t.Error(err)
		}
	})
}
