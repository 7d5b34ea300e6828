package wire

import (
	"context"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/progress"
)

// readingPace is how fast may be read what deletes nothing: -rate is of deletes.
func (r *replaying) readingPace() *replay.Pace {
	pace := r.pace()
	if pace.Max >= 0 {
		pace.Max = max(pace.Max, replay.UsualMax)
	}
	return pace
}

// look lets the plans of sources read beside live traffic, as a dry run does, and
// shows how far they are once that takes long. It ends with stop. Nobody is asked
// anything before a plan reads.
func (r *replaying) look(ctx context.Context) (stop func(), err error) {
	load, unload, err := r.app.newLoad(r.redis)
	if err != nil {
		return nil, err
	}
	pace := r.readingPace()
	pace.Load = load
	look, end := lookAt(ctx, pace, r.display)
	r.sources.look = look
	return func() {
		r.sources.look = nil
		end()
		unload()
	}, nil
}

// looking is the reading for a plan.
type looking struct {
	pace *replay.Pace
	mu   sync.Mutex
	done float64
}

// lookAt returns what is called while a plan reads, at a pace, and what ends that.
// display is where it is shown.
func lookAt(ctx context.Context, pace *replay.Pace, display *progress.Display) (look func(ctx context.Context, rows int64, done float64) error, end func()) {
	l := &looking{pace: pace}
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	begin := sync.OnceFunc(func() {
		beside.Go(func() {
			defer pace.Start(ctx)()
			l.show(ctx, display)
		})
	})
	look = func(ctx context.Context, rows int64, done float64) error {
		begin()
		l.at(done)
		return pace.Rows(ctx, rows)
	}
	return look, func() {
		cancel()
		beside.Wait()
	}
}

func (l *looking) at(done float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = done
}

const (
	lookQuiet = 2 * time.Second // a plan that takes no longer is not shown
	lookShown = 500 * time.Millisecond
)

// show shows how far it is until ctx ends.
func (l *looking) show(ctx context.Context, display *progress.Display) {
	defer display.End()
	began := time.Now()
	t := time.NewTicker(lookShown)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if took := time.Since(began); took >= lookQuiet {
			display.Show(l.progress(took))
		}
	}
}

func (l *looking) progress(took time.Duration) replay.Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := replay.Progress{Phase: replay.Planning, Total: -1, Done: l.done, Left: -1, Pace: l.pace.View()}
	if l.done > 0 {
		p.Left = time.Duration((1 - l.done) / l.done * float64(took))
	}
	return p
}

// lookBytes are as much to read as a row, where nobody counts those.
const lookBytes = 32

// looked waits, as a plan does, for messages that were read for one. How many there
// will be is not known.
func (s *sources) looked(ctx context.Context, messages []pipeline.Message) error {
	if s.look == nil {
		return nil
	}
	n := 0
	for _, m := range messages {
		n += max(1, len(m.Data)/lookBytes)
	}
	return s.look(ctx, int64(n), -1)
}
