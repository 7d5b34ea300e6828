package wire

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/progress"
)

// lateLoad is of live deletes that are late as it is told.
type lateLoad struct{ lag atomic.Int64 }

func (*lateLoad) Redis(context.Context) (time.Duration, error) { return time.Millisecond, nil }

func (l *lateLoad) Live(context.Context) (time.Duration, bool, error) {
	return time.Duration(l.lag.Load()), true, nil
}

// TestPlanGivesWay: a plan reads nothing more while live deletes are late, and no
// more in a second than a dry run does; it says so.
func TestPlanGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		load := &lateLoad{}
		pace := &replay.Pace{Load: load, MaxLag: time.Second}
		var out bytes.Buffer
		look, end := lookAt(t.Context(), pace, progress.New(&out))
		read := func(ctx context.Context, d time.Duration) (rows int64) {
			ctx, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			for look(ctx, 10_000, 0.25) == nil {
				rows += 10_000
			}
			return rows
		}
		read(t.Context(), 10*time.Second)
		const most = 10 * replay.UsualMax * 10 // ten rows go as a key
		if rows := read(t.Context(), 10*time.Second); rows < most*9/10 || rows > most*21/20 {
			t.Errorf("%d rows in ten seconds", rows)
		}
		load.lag.Store(int64(3 * time.Second))
		time.Sleep(time.Second)
		if rows := read(t.Context(), time.Minute); rows > 0 {
			t.Errorf("%d rows while live deletes are late", rows)
		}
		load.lag.Store(0)
		time.Sleep(time.Second)
		if rows := read(t.Context(), time.Second); rows == 0 {
			t.Error("nothing is read when they are in time again")
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errNo)
		if err := look(ctx, 10_000, 0.5); !errors.Is(err, errNo) {
			t.Errorf("after an interrupt: %v", err)
		}
		end()
		for _, want := range []string{"25%: looking at what is to be replayed, ", " left\n", "; waiting: live deletes are 3s late, more than 1s\n"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q does not say %q", out.String(), want)
			}
		}
	})
}

// TestPlanThatIsQuick: a plan that takes no time is not shown, and asks nobody
// where it reads nothing.
func TestPlanThatIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := &sources{}
		if err := s.looked(t.Context(), []pipeline.Message{{}}); err != nil {
			t.Error(err)
		}
		look, end := lookAt(t.Context(), &replay.Pace{}, progress.New(&out)) // without a Load
		s.look = look
		for range 3 {
			if err := s.looked(t.Context(), []pipeline.Message{{Data: make([]byte, 100_000)}, {}}); err != nil {
				t.Error(err)
			}
		}
		end()
		_, end = lookAt(t.Context(), nil, progress.New(&out)) // would panic
		end()
		if out.Len() > 0 {
			t.Errorf("shown: %q", out.String())
		}
	})
}
