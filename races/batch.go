package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// batch is a part of a run: so many races, under one fault.
type batch struct {
	number int
	seed   uint64
	fault  string
	races  int64 // how many are wanted, of all caches together
	// least and most are how long it lasts: at least, so that its fault comes about,
	// and at most, since many faults leave little room for races; 0 is no bound.
	least, most time.Duration
}

// over says whether the batch has what it wants, after a time and so many races.
func (b batch) over(took time.Duration, races int64) bool {
	return took >= b.least && (races >= b.races || b.most > 0 && took >= b.most)
}

// outcome is what a batch found.
type outcome struct {
	Batch   int              `json:"batch"`
	Fault   string           `json:"fault"`
	Seconds float64          `json:"seconds"`
	Kills   int64            `json:"kills,omitempty"` // kill -9 of a command
	Caches  map[string]tally `json:"caches"`
	// Examples describe some stale keys.
	Examples []string `json:"examples,omitempty"`
}

// tally is what happened to one cache; see count.
type tally struct {
	Races    int64 `json:"races"`
	Overlaps int64 `json:"overlaps"`
	Behind   int64 `json:"behind"`
	Fills    int64 `json:"fills"`
	Refused  int64 `json:"refused"`
	Past     int64 `json:"past"`
	Beyond   int64 `json:"beyond"`
	Checked  int64 `json:"checked"`
	Cached   int64 `json:"cached"`
	Excused  int64 `json:"excused"`
	Stale    int64 `json:"stale"`
	Asked    int64 `json:"asked"`
	Older    int64 `json:"older"`
}

func (c *count) tally() tally {
	return tally{
		Races: c.races.Load(), Overlaps: c.overlaps.Load(), Behind: c.behind.Load(), Fills: c.fills.Load(), Refused: c.refused.Load(),
		Past: c.past.Load(), Beyond: c.beyond.Load(), Checked: c.checked.Load(), Cached: c.cached.Load(), Excused: c.excused.Load(), Stale: c.stale.Load(),
		Asked: c.asked.Load(), Older: c.older.Load(),
	}
}

func (t tally) plus(u tally, sign int64) tally {
	return tally{
		Races: t.Races + sign*u.Races, Overlaps: t.Overlaps + sign*u.Overlaps, Behind: t.Behind + sign*u.Behind,
		Fills: t.Fills + sign*u.Fills, Refused: t.Refused + sign*u.Refused, Past: t.Past + sign*u.Past, Beyond: t.Beyond + sign*u.Beyond,
		Checked: t.Checked + sign*u.Checked, Cached: t.Cached + sign*u.Cached, Excused: t.Excused + sign*u.Excused, Stale: t.Stale + sign*u.Stale,
		Asked: t.Asked + sign*u.Asked, Older: t.Older + sign*u.Older,
	}
}

func (w *world) races() (n int64) {
	for _, b := range w.ledger.books {
		n += b.races.Load()
	}
	return n
}

// run races all lanes until the batch has its races.
func (w *world) run(ctx context.Context, lanes []*lane, b batch) (o outcome, err error) {
	began, before := time.Now(), w.tallies()
	had, kills := w.races(), w.kills.Load()
	o = outcome{Batch: b.number, Fault: b.fault, Caches: map[string]tally{}}
	var mu sync.Mutex
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	faulty, stopFault := context.WithCancel(ctx)
	defer stopFault()
	var beside errgroup.Group
	orEnd := func(err error) error {
		if err != nil {
			cancel()
		}
		return err
	}
	beside.Go(func() error { return orEnd(w.inject(faulty, b.fault, b.rand(0))) })
	beside.Go(func() error { return orEnd(w.readAsUsers(faulty, b)) })
	g, racing := errgroup.WithContext(ctx)
	for i, l := range lanes {
		rng := b.rand(uint64(i) + 1)
		g.Go(func() error {
			for faulty.Err() == nil && !b.over(time.Since(began), w.races()-had) {
				examples, err := w.raceOnce(racing, l, rng, b.fault)
				if err != nil {
					return err
				}
				mu.Lock()
				o.Examples = append(o.Examples, examples...)
				mu.Unlock()
			}
			stopFault() // the batch ends: what is under way must be able to
			return nil
		})
	}
	err = g.Wait()
	stopFault()
	if besideErr := beside.Wait(); besideErr != nil {
		err = besideErr // what came after is its consequence
	}
	if err != nil {
		return o, err
	}
	for i, t := range w.tallies() {
		o.Caches[w.caches[i].name] = t.plus(before[i], -1)
	}
	o.Kills = w.kills.Load() - kills
	o.Seconds = time.Since(began).Seconds()
	o.Examples = o.Examples[:min(len(o.Examples), 20)]
	return o, nil
}

func (b batch) rand(lane uint64) *rand.Rand {
	return rand.New(rand.NewPCG(b.seed, uint64(b.number)<<20|lane))
}

// raceOnce plays one random round, and describes what is stale after it.
func (w *world) raceOnce(ctx context.Context, l *lane, rng *rand.Rand, fault string) (examples []string, err error) {
	l, s := random(rng, l, w.fill, fault)
	stale, err := w.round(ctx, l, s)
	if err != nil {
		return nil, err
	}
	for i, c := range w.caches {
		if slices.Contains(mustNot, c.name) && len(stale[i]) > 0 {
			examples = append(examples, w.describe(ctx, c, l, stale[i][0], fault, s))
		}
		// Values expire in real life; without it fewer and fewer reads would fill.
		// A stale key is taken away, so that it counts once.
		expired := stale[i]
		if rng.IntN(10) > 0 {
			expired = l.ids
		}
		if len(expired) > 0 {
			if err := c.expire(ctx, expired); err != nil {
				return nil, err
			}
		}
	}
	return examples, nil
}

// describe says what is known of a stale key.
func (w *world) describe(ctx context.Context, c *cache, l *lane, id int, fault string, s script) string {
	value, _ := w.redis.Get(ctx, key(c.name, id)).Result()
	version, _, _ := versionOf(value)
	return fmt.Sprintf("%s: %s holds version %d, the row has %d; fault %s, script %+v",
		time.Now().Format("15:04:05.000"), key(c.name, id), version, l.versions[id], fault, s)
}

func (w *world) tallies() (all []tally) {
	for _, b := range w.ledger.books {
		all = append(all, b.tally())
	}
	return all
}
