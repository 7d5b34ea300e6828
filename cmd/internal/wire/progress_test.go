package wire

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// shows is a server that shows a set.
type shows struct{ name, set string }

func (s *shows) Name() string { return s.name }
func (s *shows) Ask(context.Context) (pipeline.View, error) {
	set, err := gtid.Parse(s.set)
	return pipeline.View{Server: s.name, Shown: set}, err
}

// TestStanding: a reader may be judged by an answer only that is newer than the
// watermark, and stays as it was judged while Redis is away.
func TestStanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fast, slow := &shows{"fast", "0-1-10"}, &shows{"slow", "0-1-5"}
		readers := []*reader{{Reader: fast}, {Reader: slow}}
		second, away, reads := "0-1-4", error(nil), 0
		var s standing
		look := func(when string, ask bool, want map[string]bool) {
			t.Helper()
			time.Sleep(readAgain)
			for _, r := range readers {
				if _, err := r.Ask(t.Context()); ask && err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Millisecond)
			got := s.judge(readers, func() (gtid.Set, error) {
				reads++
				if away != nil {
					return gtid.Set{}, away
				}
				return gtid.Parse(second)
			})
			if !maps.Equal(got, want) {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		look("nothing is known yet", true, map[string]bool{})
		look("both show it", true, map[string]bool{"fast": false, "slow": false})
		second = "0-1-7"
		look("the second pass went on", true, map[string]bool{"fast": false, "slow": false})
		look("one was left behind", true, map[string]bool{"fast": false, "slow": true})
		away = errors.New("no route")
		look("Redis is away", true, map[string]bool{"fast": false, "slow": true})
		slow.set = "0-1-7"
		look("and it caught up", true, map[string]bool{"fast": false, "slow": false})
		before := reads
		for range 100 {
			s.judge(readers, func() (gtid.Set, error) { reads++; return gtid.Set{}, away })
		}
		if reads != before {
			t.Errorf("%d reads within a moment", reads-before)
		}
	})
}

// An answer to a question from before the watermark was read says nothing.
func TestStandingAwaitsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &shows{"one", "0-1-5"}
		r := &reader{Reader: one}
		if _, err := r.Ask(t.Context()); err != nil {
			t.Fatal(err)
		}
		var s standing
		for range 3 {
			time.Sleep(2 * readAgain)
			if got := s.judge([]*reader{r}, func() (gtid.Set, error) { return gtid.Parse("0-1-6") }); len(got) != 0 {
				t.Fatalf("judged by an old answer: %v", got)
			}
		}
		time.Sleep(time.Millisecond)
		if _, err := r.Ask(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := s.judge([]*reader{r}, func() (gtid.Set, error) { return gtid.Parse("0-1-6") }); !got["one"] {
			t.Errorf("%v", got)
		}
	})
}
