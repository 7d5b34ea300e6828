package wire

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/replay"
)

// TestTheSameLineAgain: the line that began a replay goes on with it, but for one
// that asks for another range each day.
func TestTheSameLineAgain(t *testing.T) {
	for _, c := range []struct {
		line []string
		says string // "" where it goes on
	}{
		{[]string{"log", "-since", "2020-11-17 08:00"}, ""},
		{[]string{"log", "-since", "2020-11-17T08:00:00Z", "-until", "2020-11-18"}, ""},
		{[]string{"log", "-since", "3h ago"}, "-since '3h ago' counts from now"},
		{[]string{"binlog", "-since", "2d12h"}, "-since 2d12h counts from now"},
		{[]string{"log", "-since", "yesterday"}, "-since yesterday counts from now"},
		{[]string{"log", "-since", "tuesday"}, "-since tuesday counts from now"},
		{[]string{"log", "-since", "2020-11-17", "-until", "1h ago"}, "-until '1h ago' counts from now"},
		{[]string{"log", "-from", "7"}, ""},
		{[]string{"dead"}, ""},
		{[]string{"table", "-table", "shop.item", "-where", "known = 'renowned' AND at > '2020-01-01'"}, ""},
		{[]string{"table", "-table", "shop.item", "-where", "at > NOW() - INTERVAL 1 DAY"}, "-where 'at > NOW() - INTERVAL 1 DAY' counts from now"},
		{[]string{"table", "-table", "shop.item", "-where", "at > current_date"}, "counts from now"},
	} {
		line := append(c.line, "-config", "c", "-state", t.TempDir())
		a, problems := parseReplay(line, testNow)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		settings, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		s, err := replay.CreateState(a.State, replay.Job{Kind: a.Verb, Fixed: json.RawMessage(`{}`), Settings: settings, Args: line})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		r := &replaying{args: a, line: line, stderr: io.Discard}
		err = r.unfinished()
		switch {
		case c.says == "" && (err != nil || r.state == nil):
			t.Errorf("%q does not go on: %v", c.line, err)
		case c.says != "" && (err == nil || r.state != nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "resume -state")):
			t.Errorf("%q: %v, want %q", c.line, err, c.says)
		}
		r.close()
	}
}
