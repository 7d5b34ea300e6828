package pipeline_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// The oracle must see what is wrong: each of these histories is a right one
// with one mistake in it.
func TestOracleSeesMistakes(t *testing.T) {
	const fill = time.Second
	data := func(gtid string, id int) []byte {
		return []byte(fmt.Sprintf(`{"v":1,"kind":"changes","gtid":%q,"tables":[{"db":"shop","table":"cart","columns":["id"],"rows":[{"after":[%d]}]}]}`, gtid, id))
	}
	all := []byte(`{"v":1,"kind":"invalidate","scopes":[{"db":"*","table":"*"}],"reason":"first start"}`)
	log := map[int][]pipeline.Message{0: {{Offset: 0, Data: all}, {Offset: 1, Data: data("src:1", 1)}, {Offset: 2, Data: data("src:2", 2)}}}
	begin := time.Now()
	at := func(d time.Duration, e entry) entry { e.at = begin.Add(d); return e }
	right := func() []entry {
		return []entry{
			at(0, entry{kind: saved, checkpoint: pipeline.Checkpoint{Position: "src:0", Pending: "first start"}}),
			at(0, entry{kind: durable, data: all}),
			at(0, entry{kind: saved, checkpoint: pipeline.Checkpoint{Position: "src:0"}}),
			at(0, entry{kind: durable, data: data("src:1", 1)}),
			at(0, entry{kind: durable, data: data("src:2", 2)}),
			at(0, entry{kind: saved, checkpoint: pipeline.Checkpoint{Position: "src:2"}}),
			at(0, entry{kind: read, from: 0, next: 3}),
			at(0, entry{kind: sent}),
			at(0, entry{kind: deleted, sent: 7, keys: []string{"cart:1", "cart:2"}}),
			at(0, entry{kind: sent}),
			at(0, entry{kind: deleted, sent: 9, patterns: everyPattern}),
			at(0, entry{kind: stored, cursors: pipeline.Cursors{First: 3}}),
			at(fill, entry{kind: sent}),
			at(fill, entry{kind: deleted, sent: 12, keys: []string{"cart:1", "cart:2"}}),
			at(fill, entry{kind: sent}),
			at(fill, entry{kind: deleted, sent: 14, patterns: everyPattern}),
			at(fill, entry{kind: stored, cursors: pipeline.Cursors{First: 3, Second: 3}}),
		}
	}
	for name, c := range map[string]struct {
		change func(h []entry)
		wrong  bool
	}{
		"right":                             {func([]entry) {}, false},
		"a first delete that was late":      {func(h []entry) { h[7].at, h[12].kind, h[13].kind = begin.Add(fill), "", "" }, false},
		"position before durable":           {func(h []entry) { h[4], h[5] = h[5], h[4] }, true},
		"position of a transaction to come": {func(h []entry) { h[3].checkpoint.Position, h[3].kind = "src:1", saved }, true},
		"owed invalidation not published":   {func(h []entry) { h[1].kind = "" }, true},
		"first cursor before the delete":    {func(h []entry) { h[6], h[11] = h[11], h[6] }, true},
		"a key forgotten by the first pass": {func(h []entry) { h[8].keys = h[8].keys[:1] }, true},
		"no second delete":                  {func(h []entry) { h[13].kind = "" }, true},
		"a key forgotten by the second":     {func(h []entry) { h[13].keys = h[13].keys[1:] }, true},
		"second delete too early":           {func(h []entry) { h[12].at = begin.Add(fill - 1) }, true},
		"second delete of another process":  {func(h []entry) { h[12].proc, h[13].proc = 1, 1 }, true},
		"delete sent before the read":       {func(h []entry) { h[6], h[7], h[8].sent = h[7], h[6], 6 }, true},
		"no second sweep":                   {func(h []entry) { h[15].kind = "" }, true},
		"a sweep of half the rules":         {func(h []entry) { h[15].patterns = everyPattern[:2] }, true},
		"another key deleted":               {func(h []entry) { h[8].keys = append(h[8].keys, "cart:3") }, true},
		"second cursor ahead":               {func(h []entry) { h[16].cursors.First = 2 }, true},
		"nothing done":                      {func(h []entry) { clear(h) }, true},
		"no end":                            {func(h []entry) { clear(h[12:]) }, true},
	} {
		h := &history{fill: fill, expected: map[string][]string{"src:1": {"cart:1"}, "src:2": {"cart:2"}}, entries: right()}
		c.change(h.entries)
		if wrong := h.violations(log, true); (len(wrong) > 0) != c.wrong {
			t.Errorf("%s: %q", name, wrong)
		}
	}
}
