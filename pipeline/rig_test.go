package pipeline_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// rig is a tailer between fakes.
type rig struct {
	*pipeline.Tailer
	t    *testing.T
	src  *pipelinetest.Source
	gate *pipelinetest.Gate
	log  *pipelinetest.Log
	gaps []string
	over []pipeline.OverInfo
}

// newRig makes one whose position is stored, unless that is "".
func newRig(t *testing.T, position pipeline.Position) *rig {
	r := &rig{t: t, src: new(pipelinetest.Source), gate: new(pipelinetest.Gate), log: pipelinetest.NewLog(2)}
	r.Tailer = &pipeline.Tailer{
		Name: "shop", Schema: schema(t), Source: r.src, Gate: r.gate, Start: "current",
		Publisher: r.log.Publisher(), Positions: r.log.Positions(),
		Hooks: pipeline.Hooks{
			Gap:             func(reason string) { r.gaps = append(r.gaps, reason) },
			OverInvalidated: func(o pipeline.OverInfo) { r.over = append(r.over, o) },
		},
	}
	if position != "" {
		r.save(pipeline.Checkpoint{Position: position})
	}
	return r
}

func (r *rig) save(c pipeline.Checkpoint) {
	if err := r.log.Positions().Save(r.t.Context(), c); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) checkpoint() pipeline.Checkpoint {
	c, err := r.log.Positions().Load(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) wantPosition(want pipeline.Position) {
	r.t.Helper()
	settle()
	if c := r.checkpoint(); c != (pipeline.Checkpoint{Position: want}) {
		r.t.Errorf("stored %+v, want %s", c, want)
	}
}

// settle lets the tailer do all that it will, storing its position included.
func settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

// events returns what is in the log.
func (r *rig) events() []*pipeline.Event {
	var out []*pipeline.Event
	for p := range 2 {
		for _, m := range r.log.Records(p) {
			e, err := pipeline.DecodeEvent(m.Data)
			if err != nil {
				r.t.Fatal(err)
			}
			out = append(out, e)
		}
	}
	return out
}

// keys returns the keys, and the reasons of invalidations, that are in the log.
func (r *rig) keys() []string {
	var out []string
	for _, e := range r.events() {
		out = append(out, keysOf(e.Tables)...)
		for _, s := range e.Scopes {
			out = append(out, fmt.Sprintf("%s.%s: %s", s.DB, s.Table, e.Reason))
		}
	}
	slices.Sort(out)
	return out
}

func (r *rig) wantKeys(want ...string) {
	r.t.Helper()
	if got := r.keys(); !slices.Equal(got, want) {
		r.t.Errorf("published %q, want %q", got, want)
	}
}
