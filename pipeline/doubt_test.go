package pipeline_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestScopes(t *testing.T) {
	for scope, want := range map[string]string{
		`{"db":"shop","table":"item"}`:                        "category:*:items item:*",
		`{"db":"shop"}`:                                       "cart:* category:*:items item:*",
		`{"db":"*","table":"*"}`:                              "cart:* category:*:items item:*",
		`{"db":"shop","table":"c?rt"}`:                        "cart:*",
		`{"db":"shop","table":"cart"},{"db":"s*","table":""}`: "cart:* category:*:items item:*",
		`{"db":"shop","table":"c\\?rt"}`:                      "",
		`{"db":"blog","table":"*"}`:                           "",
	} {
		t.Run(scope, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t)
				b.event(fmt.Sprintf(`"kind":"invalidate","scopes":[%s],"reason":"DDL"`, scope))
				stop := b.start()
				b.after(20 * time.Second)
				b.wantCursors(1, 1)
				if want == "" {
					b.wantCalls()
				} else {
					b.wantCalls("0s "+want, "10s "+want)
				}
				if reported := len(b.over) > 0; reported != (want != "") {
					t.Errorf("reported %+v", b.over)
				}
				stopped(t, stop)
			})
		})
	}
}

// What is not understood is over-invalidated, in both passes, and kept, once (I8).
func TestDoubts(t *testing.T) {
	const all, items = "cart:* category:*:items item:*", "category:*:items"
	for _, c := range []struct {
		name, data   string
		keys, sweeps string
		letter       string
	}{
		{"not an event", `hello`, "", all, "decode event"},
		{"a later version", `{"v":2,"kind":"changes"}`, "", all, "version 2"},
		{"a later kind", `{"v":1,"kind":"prepared"}`, "", all, "kind"},
		{
			"a column is missing", `{"v":1,"kind":"changes","tables":[{"db":"shop","table":"item","columns":["id"],"rows":[{"after":[1]},{"after":[2]}]}]}`,
			"item:1 item:2", items, "category",
		},
		{
			"a value is missing", `{"v":1,"kind":"changes","tables":[{"db":"shop","table":"item","columns":["id","category"],"rows":[{"before":[1,5],"after":[1,{}]}]}]}`,
			"item:1 category:5:items", items, "category",
		},
		{"no rule", `{"v":1,"kind":"changes","tables":[{"db":"shop","table":"blog","columns":["id"],"rows":[{"after":[1]}]}]}`, "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t)
				b.log.Append(0, []byte(c.data))
				b.refuse["dead"] = 2
				b.Memory = 1 // the second pass reads the log again
				stop := b.start()
				b.after(30 * time.Second)
				stopped(t, stop)
				b.wantCursors(1, 1)
				var calls []string // without their times
				for _, call := range b.calls {
					_, what, _ := strings.Cut(call, " ")
					calls = append(calls, what)
				}
				var want []string
				for _, s := range []string{c.keys, c.sweeps, c.keys, c.sweeps} {
					if s != "" {
						want = append(want, s)
					}
				}
				// Sweeps run beside the passes: which of two that are due comes first is open.
				slices.Sort(calls)
				slices.Sort(want)
				if !slices.Equal(calls, want) {
					t.Errorf("Redis was asked for %q, want %q", calls, want)
				}
				dead := b.log.Dead()
				if c.letter == "" {
					if len(dead) > 0 || len(b.over) > 0 {
						t.Errorf("dead letters %+v, reported %+v", dead, b.over)
					}
				} else if len(dead) != 1 || !strings.Contains(dead[0].Reason, c.letter) || string(dead[0].Data) != c.data || dead[0].Partition != "test/0" || len(b.over) != 1 {
					t.Errorf("dead letters %+v, reported %+v", dead, b.over)
				}
			})
		})
	}
}
