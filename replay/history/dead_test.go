package history

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

func fromJSON[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return v
}

func openedDead(t *testing.T, d LogDeps, fixed []byte) *DeadSource {
	t.Helper()
	s, err := OpenDead(d, fromJSON[DeadSpec](t, fixed))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func letter(i int, data string) pipeline.DeadLetter {
	return pipeline.DeadLetter{Partition: "shop/0", Offset: int64(i), Reason: "column \"id\" is not in the row image", Data: []byte(data)}
}

func TestDeadLetters(t *testing.T) {
	places(t, func(t *testing.T, p place) {
		schema := parseSchema(t, itemSchema)
		deps := LogDeps{Log: p.log, Schema: schema, Name: "shop"}
		var want []string
		add := func(i int, data, comes string) {
			t.Helper()
			if err := p.dead.Add(t.Context(), letter(i, data)); err != nil {
				t.Fatal(err)
			}
			if comes != "" {
				want = append(want, comes)
			}
		}
		s, err := OpenDead(deps, DeadSpec{})
		none := planLog(t, s, err)
		for i := range 6 {
			add(i, changedAs(i+1, time.Now(), 900, "shop", "item", "id", schema.Hash()), fmt.Sprint(i+1))
		}
		add(6, "no event", "shop.item")
		add(7, "nor is this", "")
		add(8, progressed(9, schema.Hash()), "")
		add(9, changedAs(10, time.Now(), 1, "shop", "unknown", "id", ""), "")
		add(10, changedAs(11, time.Now(), 1, "shop", "item", "sku", ""), "11")

		s, err = OpenDead(deps, DeadSpec{Tables: []pipeline.Scope{{DB: "shop", Table: "item"}}})
		plan := planLog(t, s, err)
		add(11, changed(12, time.Now(), 1), "") // is not of the replay
		if len(plan.Warnings) != 2 || !strings.Contains(plan.Warnings[0], "2 dead letters still cannot be decoded") || !strings.Contains(plan.Warnings[1], "lack the column id") {
			t.Errorf("warnings %q", plan.Warnings)
		}
		if l := s.lacks; len(l) != 1 || l[0].Set != testUUID+":11" {
			t.Errorf("lacks %+v", l)
		}
		chunks := read(t, openedDead(t, deps, plan.Fixed), "")
		if got := gtids(chunks); !slices.Equal(got, want) {
			t.Errorf("replayed %v, want %v", got, want)
		}
		if rows := rowsOf(chunks); rows != plan.Rows || len(chunks) < 3 {
			t.Errorf("%d rows in %d chunks, planned %d", rows, len(chunks), plan.Rows)
		}
		for i, c := range chunks {
			if got, want := gtids(read(t, openedDead(t, deps, plan.Fixed), c.Next)), gtids(chunks[i+1:]); !slices.Equal(got, want) {
				t.Errorf("behind chunk %d: %v, want %v", i, got, want)
			}
		}
		if got := read(t, openedDead(t, deps, none.Fixed), ""); len(got) != 0 {
			t.Errorf("planned when there was none: %v", gtids(got))
		}
		s, err = OpenDead(deps, DeadSpec{Skip: 2, Count: 3})
		planLog(t, s, err)
		if got := gtids(read(t, s, "")); !slices.Equal(got, []string{"3", "4", "5"}) {
			t.Errorf("some: %v", got)
		}
		s, err = OpenDead(deps, DeadSpec{Skip: 6})
		planLog(t, s, err)
		if got := gtids(read(t, s, "")); !slices.Equal(got, []string{"*.*", "11", "12"}) {
			t.Errorf("the last: %v", got)
		}
	})
}

// Where letters were removed while a replay was down, none that is left is left
// out: all of them come again.
func TestDeadLettersRemoved(t *testing.T) {
	log := &memoryLog{}
	for i := range 5 {
		log.letters = append(log.letters, letter(i, changed(i+1, time.Now(), 1500)))
	}
	deps := LogDeps{Log: log, Schema: parseSchema(t, itemSchema)}
	s, err := OpenDead(deps, DeadSpec{})
	plan := planLog(t, s, err)
	chunks := read(t, s, "")
	if len(chunks) < 2 {
		t.Fatal("one chunk only")
	}
	log.letters = log.letters[1:]
	if got := gtids(read(t, openedDead(t, deps, plan.Fixed), chunks[0].Next)); !slices.Equal(got, numbers1(2, 6)) {
		t.Errorf("replayed %v", got)
	}
	log.letters = nil
	if got := gtids(read(t, openedDead(t, deps, plan.Fixed), chunks[0].Next)); len(got) != 0 {
		t.Errorf("replayed %v", got)
	}
}

func TestDeadLettersRefuse(t *testing.T) {
	deps := LogDeps{Log: &memoryLog{letters: []pipeline.DeadLetter{letter(0, "x")}}, Schema: parseSchema(t, itemSchema)}
	for want, spec := range map[string]DeadSpec{
		"counted from 0": {Skip: -1},
		"no rule":        {Tables: []pipeline.Scope{{DB: "shop", Table: "itme"}}},
	} {
		if _, err := OpenDead(deps, spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", spec, err)
		}
	}
	s, err := OpenDead(deps, DeadSpec{Count: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Plan(t.Context()); err == nil || !strings.Contains(err.Error(), "only 1 dead letter") {
		t.Errorf("more than there are: %v", err)
	}
	s, err = OpenDead(deps, DeadSpec{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Read(t.Context(), replay.Cursor(""), nil); err == nil || !strings.Contains(err.Error(), "Plan") {
		t.Errorf("not planned: %v", err)
	}
}
