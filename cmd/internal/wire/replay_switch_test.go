package wire

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// oneChunk is a Source of one chunk, and of none behind it.
type oneChunk struct{ replay.Source }

func (oneChunk) Read(ctx context.Context, from replay.Cursor, fn func(context.Context, replay.Chunk) error) error {
	if from == "" {
		return fn(ctx, replay.Chunk{Rows: 1, Next: "log"})
	}
	return nil
}

// written is what the source says that it may show.
const written = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9"

// TestAlso is about a log that lacks tables: they come behind it, as a whole, and
// once.
func TestAlso(t *testing.T) {
	errKilled := errors.New("killed")
	for _, c := range []struct {
		name   string
		scopes []pipeline.Scope
		from   replay.Cursor
		kill   replay.Cursor
		want   []replay.Cursor
	}{
		{"all", []pipeline.Scope{{DB: "shop", Table: "item"}}, "", "-", []replay.Cursor{"log", alsoDone}},
		{"killed in the log", []pipeline.Scope{{DB: "shop", Table: "item"}}, "", "log", []replay.Cursor{"log"}},
		{"behind the log", []pipeline.Scope{{DB: "shop", Table: "item"}}, "log", "-", []replay.Cursor{alsoDone}},
		{"behind all", []pipeline.Scope{{DB: "shop", Table: "item"}}, alsoDone, "-", nil},
		{"no tables", nil, "", "-", []replay.Cursor{"log"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &also{Source: oneChunk{}, scopes: c.scopes, event: pipeline.Event{Kind: pipeline.KindInvalidate},
				gtids: func(context.Context) (string, error) { return written, nil }}
			var got []replay.Cursor
			err := a.Read(t.Context(), c.from, func(_ context.Context, chunk replay.Chunk) error {
				got = append(got, chunk.Next)
				if chunk.Next == alsoDone && (!slices.Equal(chunk.Events[0].Scopes, c.scopes) || chunk.Events[0].GTID != written) {
					t.Errorf("%+v", chunk.Events)
				}
				if chunk.Next == c.kill {
					return errKilled
				}
				return nil
			})
			if !slices.Equal(got, c.want) || (err == nil) != (c.kill == "-") {
				t.Errorf("%q %v, want %q", got, err, c.want)
			}
		})
	}
}
