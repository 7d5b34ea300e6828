package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

func TestLogByOffsets(t *testing.T) {
	places(t, func(t *testing.T, p place) {
		schema := parseSchema(t, itemSchema)
		deps := LogDeps{Log: p.log, Schema: schema, Name: "shop"}
		partitions := p.publisher.Partitions()
		var want []string
		for part := range partitions {
			var records []string
			for i := 100 * part; i < 100*part+100; i++ {
				records = append(records, changedAs(i+1, time.Now(), 50, "shop", "item", "id", schema.Hash()))
				want = append(want, fmt.Sprint(i+1))
			}
			records[10] = progressed(10+100*part, schema.Hash())
			records[20] = changedAs(1, time.Now(), 3, "shop", "unknown", "id", schema.Hash())
			records[30] = "not an event"
			records[31] = `{"v":1,"kind":"newer"}`
			p.fill(t, part, records...)
			want[100*part+30] = "*.*"
			if part > 0 {
				want[100*part+30] = "" // once is enough
			}
			want[100*part+10], want[100*part+20], want[100*part+31] = "", "", ""
		}
		want = slices.DeleteFunc(want, func(w string) bool { return w == "" })
		s, err := OpenLog(deps, LogSpec{})
		plan := planLog(t, s, err)
		p.fill(t, 0, changed(999, time.Now(), 1)) // is not of the replay
		if len(s.Lacks()) > 0 || len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "cannot be decoded") {
			t.Errorf("warnings %q, lacks %v", plan.Warnings, s.Lacks())
		}
		again := opened(t, deps, plan.Fixed)
		chunks := read(t, again, "")
		if got := gtids(chunks); !slices.Equal(got, want) {
			t.Errorf("replayed %v, want %v", got, want)
		}
		if rows := rowsOf(chunks); rows != plan.Rows || rows != int64(partitions*(96*50+3+2)) {
			t.Errorf("%d rows, planned %d", rows, plan.Rows)
		}
		if len(chunks) < 3*partitions-1 {
			t.Errorf("%d chunks only", len(chunks))
		}
		for i, c := range chunks { // wherever it was killed, the rest comes, once
			rest := read(t, opened(t, deps, plan.Fixed), c.Next)
			if got, want := gtids(rest), gtids(chunks[i+1:]); !slices.Equal(got, want) {
				t.Errorf("behind chunk %d: %v, want %v", i, got, want)
			}
		}
		mine := errors.New("mine")
		if err := again.Read(t.Context(), "", func(context.Context, replay.Chunk) error { return mine }); err != mine {
			t.Errorf("fn failed: %v", err)
		}
		// A range of one partition.
		s, err = OpenLog(deps, LogSpec{Ranges: []LogRange{{Partition: partitions - 1, From: 5, Until: 15}}})
		planLog(t, s, err)
		base := 100 * (partitions - 1)
		if got, want := gtids(read(t, s, "")), slices.Concat(numbers1(base+6, base+11), numbers1(base+12, base+16)); !slices.Equal(got, want) {
			t.Errorf("a range: %v, want %v", got, want)
		}
	})
}

func TestLogByTime(t *testing.T) {
	places(t, func(t *testing.T, p place) {
		noon := time.Now().Add(-time.Minute).Truncate(time.Second)
		var records []string
		for i := range 20 { // one a second, and some of them late or without a time
			at := noon.Add(time.Duration(i) * time.Second)
			if i == 5 {
				at = time.Time{}
			}
			records = append(records, changed(i+1, at, 1), progressed(i+1, parseSchema(t, itemSchema).Hash()))
		}
		records = append(records, changed(21, noon.Add(11*time.Second), 1))
		p.fill(t, 0, records...)
		for _, c := range []struct {
			since, until int // seconds; -1 is none
			want         []string
		}{
			{10, 12, []string{"6", "11", "12", "13", "21"}},
			{10, -1, slices.Concat([]string{"6"}, numbers1(11, 22))},
			{-1, 2, []string{"1", "2", "3", "6"}},
			{100, -1, []string{"6"}},
		} {
			var spec LogSpec
			if c.since >= 0 {
				spec.Since = noon.Add(time.Duration(c.since) * time.Second)
			}
			if c.until >= 0 {
				spec.Until = noon.Add(time.Duration(c.until) * time.Second)
			}
			deps := LogDeps{Log: p.log, Schema: parseSchema(t, itemSchema)}
			s, err := OpenLog(deps, spec)
			plan := planLog(t, s, err)
			if got := gtids(read(t, opened(t, deps, plan.Fixed), "")); !slices.Equal(got, c.want) {
				t.Errorf("since %d until %d: %v, want %v", c.since, c.until, got, c.want)
			}
			if plan.Rows != int64(len(c.want)) {
				t.Errorf("since %d until %d: %d rows planned", c.since, c.until, plan.Rows)
			}
		}
	})
}

// What retention removed is said before anything is replayed, with what to use.
func TestLogGaps(t *testing.T) {
	now := time.Now()
	log := &memoryLog{start: 50}
	for i := range 20 {
		log.records = append(log.records, progressed(i, ""), changed(i+1, now.Add(time.Duration(i-20)*time.Minute), 1))
	}
	deps := LogDeps{Log: log, Schema: parseSchema(t, itemSchema)}
	for _, c := range []struct {
		name string
		spec LogSpec
		want string // in the error
	}{
		{"all that is there", LogSpec{}, ""},
		{"from what is there on", LogSpec{Ranges: []LogRange{{0, 50, 60}}}, ""},
		{"from before", LogSpec{Ranges: []LogRange{{0, 49, 60}}}, "replay table -whole"},
		{"beyond the end", LogSpec{Ranges: []LogRange{{0, 60, 91}}}, "ends at offset 90"},
		{"behind the end", LogSpec{Ranges: []LogRange{{0, 91, -1}}}, "before the range begins"},
		{"at the end", LogSpec{Ranges: []LogRange{{0, 90, -1}}}, ""},
		{"in all partitions, as far as they go", LogSpec{Ranges: []LogRange{{AllPartitions, 80, 1000}}}, ""},
		{"in all partitions, from before", LogSpec{Ranges: []LogRange{{AllPartitions, 40, 1000}}}, "replay binlog"},
		{"another partition", LogSpec{Ranges: []LogRange{{1, -1, -1}}}, "there is no partition 1"},
		{"since before the first event", LogSpec{Since: now.Add(-25 * time.Minute)}, "replay table -whole"},
		{"since the first event", LogSpec{Since: now.Add(-20 * time.Minute)}, "replay binlog"},
		{"since later", LogSpec{Since: now.Add(-10 * time.Minute)}, ""},
		{"only until", LogSpec{Until: now.Add(-10 * time.Minute)}, ""},
	} {
		s, err := OpenLog(deps, c.spec)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := s.Plan(t.Context())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
		if err == nil && len(plan.What) == 0 {
			t.Errorf("%s: the plan says nothing", c.name)
		}
	}
	log.records = nil
	s, err := OpenLog(deps, LogSpec{Since: now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Plan(t.Context()); err == nil || !strings.Contains(err.Error(), "no event is left") {
		t.Errorf("an emptied log: %v", err)
	}
	// Removed while it is replayed.
	s, err = OpenLog(deps, LogSpec{Ranges: []LogRange{{0, 40, 50}}})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Read(t.Context(), "", func(context.Context, replay.Chunk) error { return nil })
	if gap, ok := errors.AsType[*pipeline.LogGapError](err); !ok || gap.Start != 50 || !strings.Contains(err.Error(), "replay table -whole") {
		t.Errorf("removed meanwhile: %v", err)
	}
}

// The keys of an earlier schema need the events of its tables, too.
func TestLogOldSchema(t *testing.T) {
	today, old := parseSchema(t, itemSchema), parseSchema(t, strings.ReplaceAll(itemSchema, "item", "goods"))
	whole := `{"v":1,"kind":"invalidate","source":"shop","gtid":"","seq":0,"schema":"","scopes":[{"db":"shop","table":"goods"}],"reason":"TRUNCATE"}`
	log := &memoryLog{records: []string{
		changedAs(1, time.Now(), 1, "shop", "goods", "id", today.Hash()), changedAs(2, time.Now(), 1, "shop", "item", "id", today.Hash()),
		changedAs(3, time.Now(), 1, "shop", "other", "id", today.Hash()), whole,
	}}
	for _, c := range []struct {
		old  *keys.Schema
		want []string
	}{{nil, []string{"2"}}, {old, []string{"1", "2", "shop.goods"}}} {
		s, err := OpenLog(LogDeps{Log: log, Schema: today, Old: c.old}, LogSpec{})
		planLog(t, s, err)
		if got := gtids(read(t, s, "")); !slices.Equal(got, c.want) {
			t.Errorf("with the old schema %v: %v, want %v", c.old != nil, got, c.want)
		}
	}
}

// Where the log's clock is far behind the source's, its answer is of no use.
func TestLogClocksDiffer(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	log := &memoryLog{}
	for i := range 100 {
		log.records = append(log.records, changed(i+1, now.Add(time.Duration(i-100)*time.Minute), 1))
	}
	deps := LogDeps{Log: log, Schema: parseSchema(t, itemSchema)}
	for behind, from := range map[time.Duration]int64{0: 89, 30 * time.Second: 90, -10 * time.Minute: 79, 5 * time.Minute: 0} {
		log.times = func(at time.Time) int64 {
			for i := range log.records {
				if !now.Add(time.Duration(i-100)*time.Minute - behind).Before(at) {
					return int64(i)
				}
			}
			return int64(len(log.records))
		}
		s, err := OpenLog(deps, LogSpec{Since: now.Add(-10 * time.Minute)})
		plan := planLog(t, s, err)
		if spec := fromJSON[LogSpec](t, plan.Fixed); spec.Ranges[0].From != from {
			t.Errorf("%v behind: from %d, want %d", behind, spec.Ranges[0].From, from)
		}
		if got := gtids(read(t, s, "")); !slices.Equal(got, numbers1(91, 101)) {
			t.Errorf("%v behind: %v", behind, got)
		}
	}
}

func TestLogRefuses(t *testing.T) {
	deps := LogDeps{Log: &memoryLog{}, Schema: parseSchema(t, itemSchema)}
	now := time.Now()
	for want, spec := range map[string]LogSpec{
		"before it begins": {Since: now, Until: now.Add(-time.Second)},
		"given twice":      {Ranges: []LogRange{{0, 1, 2}, {0, 3, 4}}},
		"-1 of the log is": {Ranges: []LogRange{{AllPartitions, 0, 9}, {0, 1, 2}}},
		"counted from 0":   {Ranges: []LogRange{{-2, 0, 1}}},
		"ends (1) before":  {Ranges: []LogRange{{0, 2, 1}}},
	} {
		if _, err := OpenLog(deps, spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q in it", spec, err, want)
		}
	}
	if _, err := OpenLog(LogDeps{}, LogSpec{}); err == nil {
		t.Error("without a log")
	}
	s, err := OpenLog(deps, LogSpec{Ranges: []LogRange{{AllPartitions, 0, 9}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Read(t.Context(), "", nil); err == nil || !strings.Contains(err.Error(), "Plan") {
		t.Errorf("not planned: %v", err)
	}
	if err := s.Read(t.Context(), "nonsense", nil); err == nil || !strings.Contains(err.Error(), "not of this source") {
		t.Errorf("another cursor: %v", err)
	}
}
