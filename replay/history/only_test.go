package history

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// invalidated is a record of what the tailer invalidated by itself, at no time and
// by no transaction.
func invalidated(schema, db, table string) string {
	return `{"v":1,"kind":"invalidate","source":"shop","gtid":"","seq":0,"schema":"` + schema + `","scopes":[{"db":"` + db + `","table":"` + table + `"}],"reason":"a gap"}`
}

// TestNoTransaction: what names no transaction gets all that the source may show,
// asked for once, so that second deletes wait for servers that are behind.
func TestNoTransaction(t *testing.T) {
	const all = testUUID + ":1-77"
	schema := parseSchema(t, itemSchema)
	records := []string{changed(5, time.Now(), 1), "no event", invalidated("", "shop", "item"), changed(6, time.Now(), 1)}
	log := &memoryLog{records: records}
	for i, r := range records {
		log.letters = append(log.letters, letter(i, r))
	}
	asked, down := 0, errors.New("down")
	var answer error
	deps := LogDeps{Log: log, Schema: schema, GTIDs: func(context.Context) (string, error) {
		asked++
		return all, answer
	}}
	for what, open := range map[string]func() (replay.Source, error){
		"log":          func() (replay.Source, error) { return OpenLog(deps, LogSpec{}) },
		"dead letters": func() (replay.Source, error) { return OpenDead(deps, DeadSpec{}) },
	} {
		s, err := open()
		planLog(t, s, err)
		asked, answer = 0, nil
		var got []string
		for _, c := range read(t, s, "") {
			for _, e := range c.Events {
				got = append(got, e.GTID)
			}
		}
		if want := []string{testUUID + ":5", all, all, testUUID + ":6"}; !reflect.DeepEqual(got, want) || asked != 1 {
			t.Errorf("%s: %q, asked %d times, want %q", what, got, asked, want)
		}
		answer = down
		err = s.Read(t.Context(), "", func(context.Context, replay.Chunk) error { return nil })
		if !errors.Is(err, down) {
			t.Errorf("%s, with a source that does not answer: %v", what, err)
		}
	}
}

// TestOnly: what no binlog holds is told, so that nobody reads one in place of the
// log and leaves it out.
func TestOnly(t *testing.T) {
	schema := parseSchema(t, todaySchema)
	timed := strings.Replace(invalidated("", "shop", "item"), `"seq"`, `"committed_us":1,"seq"`, 1)
	for _, c := range []struct {
		name    string
		records []string
		want    []pipeline.Scope
	}{
		{"rows", []string{event(1, "", "item", "id", "sku"), timed, progressed(1, "")}, nil},
		{"undecodable", []string{"no event"}, []pipeline.Scope{pipeline.Everything}},
		{"tables", []string{invalidated("", "shop", "orders_2"), invalidated("", "shop", "item"), invalidated("", "shop", "item")},
			[]pipeline.Scope{{DB: "shop", Table: "item"}, {DB: "shop", Table: "orders_2"}}},
		{"everything", []string{invalidated("", "shop", "item"), invalidated("", "*", "*")}, []pipeline.Scope{pipeline.Everything}},
		{"rows of no time", []string{changed(1, time.Time{}, 1)}, []pipeline.Scope{pipeline.Everything}},
	} {
		s, err := OpenLog(LogDeps{Log: &memoryLog{records: c.records}, Schema: schema}, LogSpec{})
		planLog(t, s, err)
		if got := s.Only(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
