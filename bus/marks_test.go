package bus

import (
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

func TestMarksInACommitsMetadata(t *testing.T) {
	for _, c := range []struct {
		name, marks, want string
		ok                bool
	}{
		{"none", "", `{"first":9,"end":12}`, true},
		{"some, as they are", `{"<a>": [1]}`, `{"first":9,"end":12,"marks":{"<a>": [1]}}`, true},
		{"no JSON", `{"a":`, "", false},
		{"too many", `"` + strings.Repeat("x", pipeline.MaxMarks) + `"`, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := metadata(pipeline.Cursors{First: 9, Second: 5, Marks: c.marks}, 12)
			if got != c.want || (err == nil) != c.ok {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	longest := `"` + strings.Repeat("x", pipeline.MaxMarks-2) + `"`
	const most = 1<<63 - 1
	if m, err := metadata(pipeline.Cursors{First: most, Marks: longest}, most); err != nil || len(m) > 4096 {
		t.Errorf("%d bytes, %v: a broker takes 4,096", len(m), err)
	}
}

// A cursor that is lowered to the synced end keeps its marks.
func TestLoweredCursorsKeepTheirMarks(t *testing.T) {
	e := openTest(t, EmbeddedConfig{})
	p, err := (&embeddedConsumer{e, "inv"}).partition()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Store(t.Context(), pipeline.Cursors{First: 7, Second: 6, Marks: `{"a":1}`}); err != nil {
		t.Fatal(err)
	}
	if err := p.Store(t.Context(), pipeline.Cursors{Marks: strings.Repeat("x", pipeline.MaxMarks+1)}); err == nil {
		t.Error("too many marks were stored")
	}
	if p, err = (&embeddedConsumer{e, "inv"}).partition(); err != nil {
		t.Fatal(err)
	}
	if c, gap := p.Cursors(); c != (pipeline.Cursors{Marks: `{"a":1}`}) || gap != "" {
		t.Errorf("cursors %+v, gap %q", c, gap)
	}
}
