package pipeline_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// refusing fails what is progress, in one of the two ways.
type refusing struct {
	pipeline.Publisher
	left  *int
	later bool
}

func (s refusing) Publish(ctx context.Context, records []pipeline.Record, done func(error)) error {
	if !isProgress(records[0].Data) || *s.left == 0 {
		return s.Publisher.Publish(ctx, records, done)
	}
	*s.left--
	if s.later {
		done(errFlaky)
		return nil
	}
	return errFlaky
}

func TestProgressThatFails(t *testing.T) {
	for _, later := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			r := newProgressRig(t, "src:0")
			left := 3
			r.Publisher = refusing{r.log.Publisher(), &left, later}
			var told []string
			r.Hooks.Retry = func(op string, attempt int, err error, in time.Duration) {
				told = append(told, fmt.Sprint(op, " ", attempt, " ", err, " ", in))
			}
			r.Hooks.Recovered = func(op string, failures int) { told = append(told, fmt.Sprint(op, " ", failures)) }
			stop := start(t, r.Run)
			r.src.Commit(carts(1))
			r.wantPosition("src:1")
			time.Sleep(5 * time.Second)
			synctest.Wait()
			want := []string{
				"publish progress 1 out of luck 1s", "publish progress 2 out of luck 1s",
				"publish progress 3 out of luck 1s", "publish progress 3",
			}
			if !slices.Equal(told, want) {
				t.Errorf("told %q", told)
			}
			if sets := r.progressIn(0); len(sets) == 0 || sets[0] != "src:1" {
				t.Errorf("progress %v", sets)
			}
			stopped(t, stop)
		})
	}
}

// hugeSource has a set that no record holds, up to a position.
type hugeSource struct{ *pipelinetest.Source }

func (hugeSource) GTIDSet(p pipeline.Position) string {
	if p < "src:2" {
		return strings.Repeat("x", 600<<10)
	}
	return string(p)
}

func TestProgressThatIsTooLarge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "src:0")
		r.Source = hugeSource{r.src}
		var told []string
		r.Hooks.Retry = func(op string, _ int, err error, _ time.Duration) { told = append(told, op+" "+err.Error()) }
		r.Hooks.Recovered = func(op string, _ int) { told = append(told, op) }
		stop := start(t, r.Run)
		r.src.Commit(carts(1))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		r.wantPosition("src:1")
		if len(r.progressIn(0)) != 0 || len(told) != 1 || !strings.Contains(told[0], "publish progress the source's GTID set has 614") {
			t.Errorf("progress %d, told %q", len(r.progressIn(0)), told)
		}
		r.src.Commit(carts(1))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if sets := r.progressIn(0); len(sets) == 0 || sets[0] != "src:2" || len(told) != 2 {
			t.Errorf("progress %v, told %q", sets, told)
		}
		stopped(t, stop)
	})
}
