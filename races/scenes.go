package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
)

// scene is one hazard of the demonstration, and a row of its table.
type scene struct {
	name   string
	during func(ctx context.Context, w *world) error // beside the script
	script script                                    // its writes get all keys of the scene's lane
	few    bool                                      // large values: fewer keys
	// allowed says that plain readers may be stale here by their contract.
	allowed bool
}

const (
	sceneFill  = time.Second
	sceneStall = 3 * time.Second
	sceneLag   = 4 * time.Second
	sceneKeys  = 100
	sceneFew   = 20
)

func scenes() []scene {
	now := func(at time.Duration) []write { return []write{{at: at}} }
	one := func(hold time.Duration) []fill { return []fill{{hold: hold}} }
	return []scene{
		{
			name:   "a fill pauses 0.6 s, less than fill",
			script: script{fills: one(600 * time.Millisecond), writes: now(100 * time.Millisecond)},
		},
		{
			name:    "a fill pauses 2.5 s, more than fill",
			script:  script{fills: one(2500 * time.Millisecond), writes: now(100 * time.Millisecond)},
			allowed: true,
		},
		{
			name:   "commits stall 3 s (semi-sync)",
			during: func(ctx context.Context, w *world) error { return w.stallCommits(ctx, sceneStall) },
			script: script{writes: now(300 * time.Millisecond), again: 40 * time.Millisecond},
		},
		{
			name:   "the replica is 4 s behind",
			during: func(ctx context.Context, w *world) error { return w.stopReplica(ctx, sceneLag) },
			script: script{writes: now(100 * time.Millisecond), again: 40 * time.Millisecond, reads: sceneLag},
		},
		{
			name:   "XA: prepared 3 s before its commit",
			script: script{writes: []write{{at: 100 * time.Millisecond, prepared: 3 * time.Second}}, again: 40 * time.Millisecond},
		},
		{
			name: "Redis frozen 3 s, 1 MB values in flight",
			during: func(ctx context.Context, w *world) error {
				if err := pause(ctx, 300*time.Millisecond); err != nil {
					return err
				}
				return w.freezeRedis(ctx, 3*time.Second)
			},
			script: script{fills: one(500 * time.Millisecond), writes: now(600 * time.Millisecond), pad: large},
			few:    true,
		},
	}
}

// demo plays all scenes with all caches side by side. It says whether those of
// doubletap kept their promises, and whether the scenes could have shown that
// they do not.
func demo(ctx context.Context, caches []string, kafka bool, out io.Writer) (ok bool, err error) {
	began := time.Now()
	all := scenes()
	w := &world{
		fill: sceneFill, keys: len(all) * sceneKeys, kafka: kafka,
		say: func(format string, args ...any) { fmt.Fprintf(out, "  "+format+"\n", args...) },
	}
	w.say("building the commands, and starting MySQL, a replica and Redis; the first time they are downloaded")
	if err := open(ctx, w, caches); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	lanes := newLanes(len(all), sceneKeys)
	t := newTable(out, w.caches)
	for i, s := range all {
		l := lanes[i]
		if s.few {
			l = l.part(sceneFew)
		}
		stale, err := w.scene(ctx, l, s)
		if err != nil {
			return false, wrap(s.name, err)
		}
		t.row(s, len(l.ids), stale)
	}
	ok = t.end()
	w.say("took %s; nothing is left running", time.Since(began).Round(time.Second))
	return ok, nil
}

func (w *world) scene(ctx context.Context, l *lane, s scene) (stale [][]int, err error) {
	if err := w.replicaCaughtUp(ctx); err != nil {
		return nil, err
	}
	for i := range s.script.writes {
		s.script.writes[i].ids = l.ids
	}
	g, ctx := errgroup.WithContext(ctx)
	if s.during != nil {
		g.Go(func() error { return s.during(ctx, w) })
	}
	g.Go(func() (err error) {
		stale, err = w.round(ctx, l, s.script)
		return err
	})
	return stale, g.Wait()
}
