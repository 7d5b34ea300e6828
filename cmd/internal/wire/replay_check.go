package wire

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/config"
	"github.com/doubletap-cdc/doubletap/internal/nearest"
)

// faults collects what is wrong with arguments.
type faults []string

func (f *faults) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

// check returns what is contradictory or missing, and fills in what follows from
// the arguments.
func (a *replayArgs) check(fs *flag.FlagSet, now time.Time) []string {
	var f faults
	if a.Config == "" && a.Verb != verbResume {
		f.add("-config is missing: the configuration file of the pipeline, for example -config doubletap.yaml")
	}
	oneOf(&f, "target", a.Target, targetTopic, targetRedis)
	for _, n := range []struct {
		name  string
		below bool
	}{
		{"rate", a.Rate < -1}, {"chunk", a.Chunk < 0}, {"max-redis-latency", a.Redis < 0}, {"max-live-lag", a.Lag < 0},
	} {
		if n.below {
			f.add("-%s is below 0: leave it out for the default", n.name)
		}
	}
	if a.Chunk > maxChunk {
		f.add("-chunk %d is too much at a time: at most %d", a.Chunk, maxChunk)
	}
	switch a.Verb {
	case verbLog:
		a.checkLog(&f, now)
	case verbBinlog:
		a.checkBinlog(&f, now)
	case verbTable:
		a.checkTable(&f)
	case verbKeys:
		if a.Table != "" {
			a.splitTable(&f)
		}
	}
	return f
}

// maxChunk is the largest number of rows that are one step.
const maxChunk = 10_000

func oneOf(f *faults, name, value string, known ...string) {
	if value == "" || slices.Contains(known, value) {
		return
	}
	if near := nearest.Name(value, known); near != "" {
		f.add("-%s %s: did you mean %s?", name, value, near)
		return
	}
	f.add("-%s %s: it is one of %s", name, value, strings.Join(known, ", "))
}

// checkTimes reads -since and -until.
func (a *replayArgs) checkTimes(f *faults, now time.Time) {
	var err error
	a.since, a.until = instant{}, instant{Time: now}
	if a.Since != "" {
		if a.since, err = parseTime(a.Since, now); err != nil {
			f.add("-since: %v", err)
		} else if a.since.After(now) {
			f.add("-since %s is %v from now: a replay looks back", a.since, a.since.Sub(now).Round(time.Second))
		}
	}
	if a.Until == "" {
		return
	}
	if a.until, err = parseTime(a.Until, now); err != nil {
		f.add("-until: %v", err)
		return
	}
	if a.until.After(now) {
		f.add("-until %s has not come yet: leave -until out to replay up to now", a.until)
	} else if a.Since != "" && !a.since.IsZero() && !a.since.Before(a.until.Time) {
		f.add("-since %s is not before -until %s: did you mean them the other way round?", a.since, a.until)
	}
}

func (a *replayArgs) checkLog(f *faults, now time.Time) {
	a.checkTimes(f, now)
	offsets := a.From >= 0 || a.To >= 0
	switch {
	case offsets && (a.Since != "" || a.Until != ""):
		f.add("-from and -to are offsets, -since and -until are times: give one pair of them")
	case a.To >= 0 && a.From < 0:
		f.add("-to %d without -from: give the first offset too, 0 for all there is", a.To)
	case a.From >= 0 && a.To >= 0 && a.To <= a.From:
		f.add("-to %d is not behind -from %d: there is nothing between", a.To, a.From)
	case !offsets && a.Since == "":
		f.add(`say where to begin: -since "3h ago", or -partition 0 -from OFFSET`)
	}
	if a.From < -1 || a.To < -1 || a.Partition < -1 {
		f.add("-partition, -from and -to count from 0")
	}
}

func (a *replayArgs) checkBinlog(f *faults, now time.Time) {
	a.checkTimes(f, now)
	switch {
	case a.GTIDs != "" && (a.Since != "" || a.Until != ""):
		f.add("-gtids names transactions, -since and -until are times: give one or the other")
	case a.GTIDs == "" && a.Since == "" && len(a.Files) == 0:
		f.add(`say what to read: -since "3h ago", -gtids SET, or -files PATH...`)
	}
	seen := map[string]bool{}
	for _, p := range a.Files {
		if seen[p] {
			f.add("-files: %s is there twice", p)
		}
		seen[p] = true
	}
}

func (a *replayArgs) checkTable(f *faults) {
	if a.Table == "" {
		f.add("-table is missing: which one, as db.table")
	} else {
		a.splitTable(f)
	}
	if a.Whole && a.Where != "" {
		f.add("-whole deletes the keys of all rows without reading any, -where chooses rows: leave one out")
	}
	if a.Whole && a.Chunk > 0 {
		f.add("-whole reads no rows, so -chunk says nothing: leave one out")
	}
	oneOf(f, "between", a.Between, on, off, auto)
	if a.Whole && a.Between == on {
		f.add("-between on is for reading the table, which -whole does not: leave it out")
	}
	w := strings.ToLower(strings.TrimSpace(a.Where))
	if rest, ok := strings.CutPrefix(w, "where "); ok {
		f.add("-where takes the condition alone: -where %q", strings.TrimSpace(a.Where)[len(w)-len(rest):])
	}
}

// split fills in what follows from the arguments of a replay that is resumed.
func (a *replayArgs) split() {
	if a.Table != "" {
		a.splitTable(&faults{})
	}
}

func (a *replayArgs) splitTable(f *faults) {
	sep := "."
	if strings.HasPrefix(a.Table, "`") {
		sep = "`."
	}
	db, table, ok := strings.Cut(a.Table, sep)
	db, table = strings.Trim(db, "`"), strings.Trim(table, "`")
	if !ok || db == "" || table == "" {
		f.add("-table %s: write the database too, as db.table", a.Table)
		return
	}
	a.db, a.table = db, table
}

// stray says what a word means that is not a flag.
func (a *replayArgs) stray(word string) string {
	switch {
	case a.Verb == verbTable && a.Table == "" && strings.Count(word, ".") == 1:
		return fmt.Sprintf("unexpected %q: did you mean -table %s?", word, word)
	case a.Verb == verbBinlog:
		return fmt.Sprintf("unexpected %q: did you mean -files %s?", word, word)
	case a.Verb == verbKeys:
		return fmt.Sprintf("unexpected %q: keys are read from standard input, one on a line: echo %q | replay keys ...", word, word)
	case a.Verb == verbResume:
		return fmt.Sprintf("unexpected %q: did you mean -state %s?", word, word)
	case word == "ago":
		return `unexpected "ago": quote it with its number, -since "3h ago"`
	}
	return fmt.Sprintf("unexpected %q: every argument has a name; %s -h lists them", word, "replay "+a.Verb)
}

// checkConfig returns what contradicts the configuration, and chooses the target.
func (a *replayArgs) checkConfig(c *config.Config) []string {
	var f faults
	embedded := c.Log.Embedded != nil
	switch {
	case a.Target == "" && embedded:
		a.Target = targetRedis
	case a.Target == "":
		a.Target = targetTopic
	case a.Target == targetTopic && embedded:
		f.add("-target topic: the log is embedded and has no topic that other processes read: leave -target out, and this process deletes by itself (-target redis)")
	}
	if a.Verb == verbLog && embedded && a.Partition > 0 {
		f.add("-partition %d: an embedded log has partition 0 only", a.Partition)
	}
	if c.Mode == config.ModeObserve && !a.DryRun {
		f.add("mode is observe in the configuration, which deletes nothing: use -dry-run to look, or set mode: active")
	}
	return f
}
