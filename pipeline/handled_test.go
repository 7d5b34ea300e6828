package pipeline_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// The hooks of the first pass tell what was read, and then, once it is deleted, up
// to where that is so.
func TestFetchedThenHandled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t)
		var told []string
		const outage = 5 * time.Second
		tell := func(format string, args ...any) {
			if time.Since(b.began) >= outage {
				format = "late: " + format
			}
			lock(b, func() { told = append(told, fmt.Sprintf(format, args...)) })
		}
		b.Hooks.Fetched = func(i pipeline.FetchedInfo) {
			tell("%s: %d records, %d behind, end %d", i.Partition, i.Records, i.Behind, i.End)
		}
		b.Hooks.Handled = func(partition string, next int64) { tell("%s: before %d", partition, next) }
		b.fail = func(pipelinetest.DeleteCall) error {
			if time.Since(b.began) < outage {
				return errFlaky
			}
			return nil
		}
		stop := b.start()
		b.change(1)
		b.change(2)
		b.after(3 * time.Second)
		b.change(3)
		b.after(20 * time.Second)
		lock(b, func() {
			want := []string{"test/0: 2 records, 0 behind, end 2", "late: test/0: before 2", "late: test/0: 1 records, 0 behind, end 3", "late: test/0: before 3"}
			if !slices.Equal(told, want) {
				t.Errorf("told %q, want %q", told, want)
			}
		})
		stopped(t, stop)
	})
}
