package pipeline

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// asked is one pattern that somebody asked to be swept.
type asked struct {
	pattern       string
	from          int64
	seen          time.Time
	first, second bool
}

// Whatever is asked for and merged, cursors are held back until each pattern was
// swept by both passes, the second time when it was due (I1, I6).
func TestSweeperModel(t *testing.T) {
	const fill = 10 * time.Second
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			s := newSweeper()
			var all []*asked
			add := func() {
				a := &asked{pattern: string(rune('a' + r.IntN(5))), from: int64(len(all)), seen: time.Now()}
				pass := First
				if r.IntN(3) == 0 { // an earlier owner made the first
					pass, a.first = Second, true
				}
				if r.IntN(10) == 0 {
					a.from = -1
				}
				all = append(all, a)
				s.add(pass, a.from, waitFor{seen: a.seen}, fill, []string{a.pattern})
			}
			check := func() {
				t.Helper()
				c := s.lowest()
				for _, a := range all {
					if !a.first && c.First > a.from || !a.second && c.Second > a.from {
						t.Fatalf("cursors may go to %+v, but %+v is owed", c, a)
					}
				}
			}
			step := func(adding bool) {
				o, in := s.ready(func(o *sweep) (time.Time, bool) { return o.wait.seen.Add(fill), true })
				if o == nil {
					time.Sleep(min(in, time.Duration(r.IntN(4000))*time.Millisecond+time.Millisecond))
					return
				}
				sent, patterns, pass := time.Now(), slices.Clone(o.patterns), o.pass
				known := len(all)
				for range r.IntN(3) { // while it runs
					time.Sleep(time.Duration(r.IntN(9)) * time.Second)
					if adding {
						add()
					}
					check()
				}
				for _, a := range all[:known] {
					if slices.Contains(patterns, a.pattern) {
						a.first = a.first || pass == First
						a.second = a.second || a.first && sent.Sub(a.seen) >= fill
					}
				}
				s.done(o, sent.Sub(o.wait.seen) >= fill)
				check()
			}
			for range 60 {
				if r.IntN(2) == 0 {
					add()
					check()
				}
				step(true)
			}
			for len(s.owed) > 0 {
				step(false)
			}
			if c := s.lowest(); c.First != math.MaxInt64 || c.Second != math.MaxInt64 {
				t.Fatalf("at the end cursors are held at %+v", c)
			}
			check()
		})
	}
}
