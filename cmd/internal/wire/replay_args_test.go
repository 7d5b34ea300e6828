package wire

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var testNow = time.Date(2026, 11, 21, 20, 0, 0, 0, time.FixedZone("CET", 3600)) // a Saturday

func TestParseTime(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"2026-11-17", "2026-11-17T00:00:00+01:00"},
		{"2026-11-17 08:30", "2026-11-17T08:30:00+01:00"},
		{"2026-11-17T08:30:15", "2026-11-17T08:30:15+01:00"},
		{"2026-11-17T08:30:00Z", "2026-11-17T08:30:00Z"},
		{"2026-11-17t08:30:00.25z", "2026-11-17T08:30:00.25Z"},
		{"2026-11-17T08:30:00-07:00", "2026-11-17T08:30:00-07:00"},
		{"2026-11-17 08:30:00 -07:00", "2026-11-17T08:30:00-07:00"},
		{"3h ago", "2026-11-21T17:00:00+01:00"},
		{"90 minutes ago", "2026-11-21T18:30:00+01:00"},
		{"2d12h", "2026-11-19T08:00:00+01:00"},
		{"1 week ago", "2026-11-14T20:00:00+01:00"},
		{"Tuesday", "2026-11-17T00:00:00+01:00"},
		{"saturday", "2026-11-21T00:00:00+01:00"},
		{"yesterday", "2026-11-20T00:00:00+01:00"},
		{"now", "2026-11-21T20:00:00+01:00"},
	} {
		got, err := parseTime(c.text, testNow)
		if err != nil || got.Format(time.RFC3339Nano) != c.want {
			t.Errorf("%q: %v %v, want %s", c.text, got, err, c.want)
		}
	}
	for text, want := range map[string]string{
		"tusday": "did you mean tuesday", "2026-17-11": "write 2026-11-17", "3x ago": "is no time", "99999999999w": "is no time", "": "is no time",
		"17.11.2026": "is no time", "3": "is no time",
	} {
		if _, err := parseTime(text, testNow); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	at, err := parseTime("tuesday", testNow)
	if want := `Tue 2026-11-17 00:00:00 CET +01:00 ("tuesday")`; err != nil || at.String() != want {
		t.Errorf("it is read as %s, want %s", at, want)
	}
}

func TestReplayArgsWrong(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string // each in a problem of its own, and no others
	}{
		{"", []string{"say what to replay"}},
		{"bin-log", []string{"did you mean binlog?"}},
		{"tabel -config c", []string{"did you mean table?"}},
		{"rewind", []string{"one of log, binlog"}},
		{"-config c log -since 1h", []string{"replay log -config ..."}},
		{"log", []string{"-config is missing", "say where to begin"}},
		{"log -config c -sinse 3h", []string{"did you mean -since?", "say where to begin"}},
		{"log -config c -since 3h ago", []string{`-since "3h ago"`}},
		{"log -config c -since 1h -from 3", []string{"give one pair"}},
		{"log -config c -to 3", []string{"without -from"}},
		{"log -config c -from 3 -to 3", []string{"nothing between"}},
		{"log -config c -from -7", []string{"say where to begin", "count from 0"}},
		{"log -config c -since 1h -until 2h", []string{"the other way round"}},
		{"log -config c -since 2027-01-01", []string{"a replay looks back"}},
		{"log -config c -since 1h -until 2027-01-01", []string{"has not come yet"}},
		{"log -config c -since soon -until later", []string{"-since:", "-until:"}},
		{"log -config c -since 1h -gtids x", []string{"it belongs to: binlog"}},
		{"log -config c -since 1h -rate fast", []string{"no whole number of keys"}},
		{"log -config c -since 1h -max-live-lag 5", []string{"no duration"}},
		{"log -config c -since 1h -rate", []string{"-rate KEYS"}},
		{"log -config c -config d -since 1h", []string{"given twice"}},
		{"log -config c -since 1h -rate -5", []string{"-rate is below 0"}},
		{"log -config c -since 1h -target topics", []string{"did you mean topic?"}},
		{"log -config c -since 1h -target disk", []string{"one of topic, redis"}},
		{"table -config c -table shop.item -chunk 1000000", []string{"at most 10000"}},
		{"log -config c -since 1h -chunk 5", []string{"it belongs to: table, keys"}},
		{"log -config c -since 1h -yes=perhaps", []string{"it takes no value"}},
		{"binlog -config c", []string{"say what to read"}},
		{"binlog -config c -gtids s -since 1h", []string{"one or the other"}},
		{"binlog -config c binlog.000003", []string{"did you mean -files binlog.000003?", "say what to read"}},
		{"binlog -config c -files a b a", []string{"a is there twice"}},
		{"table -config c", []string{"-table is missing"}},
		{"table -config c shop.item", []string{"did you mean -table shop.item?", "-table is missing"}},
		{"table -config c -table item", []string{"as db.table"}},
		{"table -config c -table shop.item -whole -where x", []string{"leave one out"}},
		{"table -config c -table shop.item -whole -chunk 5", []string{"leave one out"}},
		{"table -config c -table shop.item -whole -between on", []string{"leave it out"}},
		{"table -config c -table shop.item -between atuo", []string{"did you mean auto?"}},
		{"keys -config c item:1", []string{"read from standard input"}},
		{"keys -config c -where x", []string{"it belongs to: table"}},
		{"resume folder", []string{"did you mean -state folder?"}},
		{"resume -since 1h", []string{"it belongs to: log, binlog"}},
		{"dead -config c now", []string{"every argument has a name"}},
	} {
		_, problems := parseReplay(strings.Fields(c.line), testNow)
		if len(problems) != len(c.want) {
			t.Errorf("%q: %q, want %q", c.line, problems, c.want)
			continue
		}
		for _, w := range c.want {
			if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, w) }) {
				t.Errorf("%q: %q, want %q among them", c.line, problems, w)
			}
		}
	}
	if _, problems := parseReplay([]string{"table", "-config", "c", "-table", "s.t", "-where", "WHERE a = 'B'"}, testNow); len(problems) != 1 || !strings.Contains(problems[0], `-where "a = 'B'"`) {
		t.Errorf("a condition with WHERE: %q", problems)
	}
}

func TestReplayArgsRight(t *testing.T) {
	a, problems := parseReplay([]string{
		"binlog", "-files", "f1", "f2", "--config=doubletap.yaml", "-since", "2026-11-17", "-rate", "20_000", "-yes", "-max-redis-latency=2ms", "-dry-run=false",
	}, testNow)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if !slices.Equal(a.Files, []string{"f1", "f2"}) || a.Config != "doubletap.yaml" || a.Rate != 20000 || !a.Yes || a.DryRun || a.Redis != 2*time.Millisecond {
		t.Errorf("%+v", a)
	}
	if a.since.Day() != 17 || !a.until.Time.Equal(testNow) || a.until.String() != "now" {
		t.Errorf("since %v until %v", a.since, a.until)
	}
	a, problems = parseReplay([]string{"table", "-config", "c", "-table", "`my.db`.item"}, testNow)
	if len(problems) > 0 || a.db != "my.db" || a.table != "item" || a.Between != auto {
		t.Errorf("%q %+v", problems, a)
	}
}

// words splits a command line of an example as a shell does.
func words(line string) (all []string) {
	word, quote, open := "", rune(0), false
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, open = c, true
		case quote == 0 && c == ' ':
			if word != "" || open {
				all = append(all, word)
			}
			word, open = "", false
		default:
			word += string(c)
		}
	}
	if word != "" || open {
		all = append(all, word)
	}
	return all
}

// examples are the command lines of a text that call replay.
func examples(text string) (lines [][]string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "bin/"))
		if _, after, ok := strings.Cut(line, "| replay "); ok {
			line = "replay " + after
		}
		line, _, _ = strings.Cut(line, " < ")
		line, _, _ = strings.Cut(line, "   #")
		if after, ok := strings.CutPrefix(line, "replay "); ok && !strings.Contains(line, "[") {
			lines = append(lines, words(after))
		}
	}
	return lines
}

func TestHelpExamples(t *testing.T) {
	for verb, text := range manual {
		_, text, ok := strings.Cut(text, "EXAMPLES\n")
		text, _, _ = strings.Cut(text, "SEE ALSO")
		lines := examples(text)
		if !ok || len(lines) < 2 {
			t.Errorf("replay %s -h has %d examples", verb, len(lines))
		}
		for _, line := range lines {
			if _, problems := parseReplay(line, testNow); len(problems) > 0 {
				t.Errorf("replay %s -h: example %q: %q", verb, line, problems)
			}
			if verb != "" && line[0] != verb {
				t.Errorf("replay %s -h: example %q", verb, line)
			}
		}
	}
}

func TestHelp(t *testing.T) {
	for _, verb := range append([]string{""}, replayVerbs...) {
		var out, errs strings.Builder
		if code := Replay(strings.Fields(verb+" -h"), strings.NewReader(""), &out, &errs); code != ExitOK || errs.Len() > 0 {
			t.Errorf("replay %s -h: code %d, stderr %q", verb, code, errs.String())
		}
		for _, part := range []string{"NAME\n", "SYNOPSIS\n", "DESCRIPTION\n", "FILES\n", "EXIT CODES\n", "EXAMPLES\n", "SEE ALSO\n"} {
			if !strings.Contains(out.String(), part) {
				t.Errorf("replay %s -h has no %q", verb, part)
			}
		}
		for line := range strings.Lines(out.String()) {
			if len(line) > 82 && !strings.Contains(line, "replay ") || strings.HasPrefix(line, "@") {
				t.Errorf("replay %s -h: %q", verb, line)
			}
		}
		if verb == "" {
			continue
		}
		for _, name := range []string{"-state FOLDER", "-summary FILE", "-config FILE", "-rate KEYS"} {
			if !strings.Contains(out.String(), "  "+name+"\n") {
				t.Errorf("replay %s -h does not say %s:\n%s", verb, name, out.String())
			}
		}
	}
}
