package wire

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/internal/nearest"
	"github.com/doubletap-cdc/doubletap/replay/table"
)

// The subcommands of replay.
const (
	verbLog    = "log"
	verbBinlog = "binlog"
	verbTable  = "table"
	verbKeys   = "keys"
	verbDead   = "dead"
	verbResume = "resume"
)

var replayVerbs = []string{verbLog, verbBinlog, verbTable, verbKeys, verbDead, verbResume}

// Values of -target and of -between.
const (
	targetTopic = "topic"
	targetRedis = "redis"
	auto        = "auto"
	on          = "on"
	off         = "off"
)

// replayArgs is what a command line of replay says. A state folder keeps it, so
// that resume needs no more than the folder.
type replayArgs struct {
	Verb    string        `json:"verb"`
	Config  string        `json:"config"`
	Target  string        `json:"target,omitempty"`
	State   string        `json:"-"`
	DryRun  bool          `json:"dry_run,omitempty"`
	Yes     bool          `json:"-"`
	Rate    int           `json:"rate,omitempty"`
	Redis   time.Duration `json:"max_redis_latency,omitempty"`
	Lag     time.Duration `json:"max_live_lag,omitempty"`
	Chunk   int           `json:"chunk,omitempty"`
	OldKeys string        `json:"old_keys,omitempty"`
	Summary string        `json:"summary,omitempty"`

	Since     string   `json:"since,omitempty"`
	Until     string   `json:"until,omitempty"`
	Partition int      `json:"partition"` // -1: all
	From      int64    `json:"from"`      // -1: not given
	To        int64    `json:"to"`        // -1: not given
	NoSwitch  bool     `json:"no_switch,omitempty"`
	GTIDs     string   `json:"gtids,omitempty"`
	Files     []string `json:"files,omitempty"`
	Table     string   `json:"table,omitempty"`
	Where     string   `json:"where,omitempty"`
	Whole     bool     `json:"whole,omitempty"`
	Between   string   `json:"between,omitempty"`

	since, until instant
	db, table    string
}

func newReplayArgs(verb string) *replayArgs {
	return &replayArgs{Verb: verb, Partition: -1, From: -1, To: -1}
}

// flags are the flags of the subcommand, which fill in a.
func (a *replayArgs) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("replay "+a.Verb, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&a.State, "state", "doubletap-replay", "the `folder` that remembers how far the replay is; made if it is missing. One replay at a time uses a folder")
	fs.BoolVar(&a.Yes, "yes", false, "do not ask before keys are deleted; needed where there is no terminal")
	fs.StringVar(&a.Summary, "summary", "", "write the summary, one JSON object, to this `file`; - is standard output. Default: standard output, unless that is a terminal")
	a.paceFlags(fs)
	if a.Verb == verbResume {
		fs.StringVar(&a.Config, "config", "", "the configuration `file`, if it is no longer where it was at the beginning")
		return fs
	}
	fs.StringVar(&a.Config, "config", "", "the configuration `file` of the pipeline (docs/configuration.md). Its key schema is the one by which keys are built: let it be the right one")
	fs.StringVar(&a.Target, "target", "", "where events go: `topic|redis`. topic is a topic beside the live one, which the running invalidators consume; redis has this process delete by itself. Default: topic with log.kafka, redis with log.embedded")
	fs.BoolVar(&a.DryRun, "dry-run", false, "delete nothing: count the keys, by rule, and say how long the replay would take and what it would cost the database")
	fs.StringVar(&a.OldKeys, "old-keys", "", "a key schema `file`: delete the keys that it makes too, for keys whose template was changed")
	switch a.Verb {
	case verbLog:
		a.timeFlags(fs)
		fs.IntVar(&a.Partition, "partition", -1, "only the partition with this `number`, from 0; default: all of them")
		fs.Int64Var(&a.From, "from", -1, "begin with the record at this `offset`, instead of -since")
		fs.Int64Var(&a.To, "to", -1, "end before the record at this `offset`, instead of -until")
		fs.BoolVar(&a.NoSwitch, "no-switch", false, "keep to the log where it lacks what the key schema needs today: all keys are deleted of rules whose columns its events lack, and nothing of tables of which it has no events. Without it the binlog is read instead where it is still there")
	case verbBinlog:
		a.timeFlags(fs)
		fs.StringVar(&a.GTIDs, "gtids", "", "the transactions of this GTID `set`, in the source's notation, instead of -since and -until")
		fs.Var((*paths)(&a.Files), "files", "read these binlog files instead of the server: a `path` of a file, or of a folder with nothing else in it; more of them behind it. In the order of the server, none left out between")
	case verbTable:
		fs.StringVar(&a.Table, "table", "", "the table, as `db.table`")
		fs.StringVar(&a.Where, "where", "", "only rows for which this SQL `condition` is true")
		fs.BoolVar(&a.Whole, "whole", false, "do not read the table: delete every key that its rules can make, by SCAN; also those of rows that are gone")
		a.chunkFlag(fs, fmt.Sprintf("default %d", table.DefaultChunk))
		fs.StringVar(&a.Between, "between", auto, "replay what the binlog has since the plan, after the table was read: `on|off|auto`. auto is off where all that runs of the pipeline says that it has this key schema, and on otherwise")
	case verbKeys:
		fs.StringVar(&a.Table, "table", "", "the lines of standard input are primary keys of this table, as `db.table`; without it they are cache keys")
		a.chunkFlag(fs, "default 5000; with -table it is 1000, whatever this says")
	}
	return fs
}

func (a *replayArgs) paceFlags(fs *flag.FlagSet) {
	fs.IntVar(&a.Rate, "rate", 0, "at most so many `keys` a second (default 20000), fewer while Redis or the live traffic suffer; -1 is no bound")
	fs.DurationVar(&a.Redis, "max-redis-latency", 0, "slow down when Redis takes longer by this `time` to answer a PING than at its best (default 5ms)")
	fs.DurationVar(&a.Lag, "max-live-lag", 0, "pause while live deletes are later than this `time` (default 1s)")
}

func (a *replayArgs) chunkFlag(fs *flag.FlagSet, usual string) {
	fs.IntVar(&a.Chunk, "chunk", 0, "so many `rows` are one step, which is what a crash repeats ("+usual+")")
}

func (a *replayArgs) timeFlags(fs *flag.FlagSet) {
	fs.StringVar(&a.Since, "since", "", "from this `time` on: "+timeForms)
	fs.StringVar(&a.Until, "until", "", "up to this `time`, including it; default: now")
}

// paths collects the values of a flag that may be given several times.
type paths []string

func (p *paths) String() string     { return strings.Join(*p, " ") }
func (p *paths) Set(s string) error { *p = append(*p, s); return nil }

// parseReplay reads a command line, without the name of the program. problems are
// what is wrong with it, for people, all at once.
func parseReplay(args []string, now time.Time) (a *replayArgs, problems []string) {
	if len(args) == 0 {
		return nil, []string{"say what to replay: one of " + strings.Join(replayVerbs, ", ") + "; replay -h tells them apart"}
	}
	verb, rest := args[0], args[1:]
	if !slices.Contains(replayVerbs, verb) {
		return nil, []string{unknownVerb(verb, rest)}
	}
	a = newReplayArgs(verb)
	fs := a.flags()
	problems = setFlags(fs, rest, func(word string) string {
		if verb == verbBinlog && len(a.Files) > 0 {
			a.Files = append(a.Files, word)
			return ""
		}
		return a.stray(word)
	})
	problems = append(problems, a.check(fs, now)...)
	return a, problems
}

// helpWanted returns what help is asked about: a subcommand, or "" for all.
func helpWanted(args []string) (verb string, ok bool) {
	isHelp := func(s string) bool { return slices.Contains([]string{"-h", "--h", "-help", "--help"}, s) }
	switch {
	case len(args) == 0:
		return "", false
	case args[0] == "help" && len(args) > 1 && slices.Contains(replayVerbs, args[1]):
		return args[1], true
	case isHelp(args[0]), args[0] == "help":
		return "", true
	case slices.Contains(replayVerbs, args[0]) && slices.ContainsFunc(args[1:], isHelp):
		return args[0], true
	}
	return "", false
}

func unknownVerb(word string, rest []string) string {
	if strings.HasPrefix(word, "-") {
		for _, w := range rest {
			if slices.Contains(replayVerbs, w) {
				return fmt.Sprintf("the subcommand comes first: replay %s %s ...", w, word)
			}
		}
		return fmt.Sprintf("%s: the subcommand comes first: one of %s", word, strings.Join(replayVerbs, ", "))
	}
	known := append(slices.Clone(replayVerbs), "help")
	if near := nearest.Name(word, append(known, "deadletters", "dead-letters", "topic", "gtid", "rows")); near != "" {
		if meant, ok := map[string]string{"deadletters": verbDead, "dead-letters": verbDead, "topic": verbLog, "gtid": verbBinlog, "rows": verbTable}[near]; ok {
			near = meant
		}
		return fmt.Sprintf("%q is nothing to replay; did you mean %s?", word, near)
	}
	return fmt.Sprintf("%q is nothing to replay: one of %s", word, strings.Join(replayVerbs, ", "))
}

// setFlags sets every flag of a command line, and returns all that is wrong with
// it, where package flag stops at the first. stray is asked about other words.
func setFlags(fs *flag.FlagSet, args []string, stray func(string) string) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	given := map[string]bool{}
	for i := 0; i < len(args); i++ {
		word := args[i]
		if !strings.HasPrefix(word, "-") || word == "-" {
			if p := stray(word); p != "" {
				bad("%s", p)
			}
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-"), "=")
		f := fs.Lookup(name)
		isBool := f != nil && isBoolFlag(f)
		if !hasValue && isBool {
			value, hasValue = "true", true
		}
		if !hasValue && i+1 < len(args) && (!strings.HasPrefix(args[i+1], "-") || args[i+1] == "-" || isNumber(args[i+1])) {
			i++
			value, hasValue = args[i], true
		}
		switch {
		case f == nil:
			bad("%s", unknownFlag(fs, name))
		case !hasValue:
			kind, _ := flag.UnquoteUsage(f)
			bad("-%s needs a value: -%s %s", name, name, strings.ToUpper(kind))
		case given[name] && name != "files" && !isBool:
			bad("-%s is given twice: once is enough", name)
		default:
			if err := fs.Set(name, value); err != nil {
				kind, _ := flag.UnquoteUsage(f)
				bad("-%s %s: %s", name, value, wanted(f, kind))
			}
		}
		given[name] = true
	}
	return problems
}

func isBoolFlag(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

func isNumber(s string) bool {
	rest := strings.TrimPrefix(s, "-")
	return rest != "" && strings.Trim(rest, "0123456789") == ""
}

// wanted says what a flag takes, for a value that it does not.
func wanted(f *flag.Flag, kind string) string {
	switch f.Value.(flag.Getter).Get().(type) {
	case time.Duration:
		return `this is no duration: write 5ms, 2s or 1m30s`
	case int, int64:
		return "this is no whole number of " + kind
	case bool:
		return "it takes no value; leave it out for no"
	}
	return "this is no " + kind
}

// elsewhere says to which subcommands a flag belongs.
func elsewhere(name string) (verbs []string) {
	for _, v := range replayVerbs {
		if newReplayArgs(v).flags().Lookup(name) != nil {
			verbs = append(verbs, v)
		}
	}
	return verbs
}

func unknownFlag(fs *flag.FlagSet, name string) string {
	if verbs := elsewhere(name); len(verbs) > 0 {
		return fmt.Sprintf("-%s is not for %s; it belongs to: %s", name, fs.Name(), strings.Join(verbs, ", "))
	}
	var known []string
	fs.VisitAll(func(f *flag.Flag) { known = append(known, f.Name) })
	if near := nearest.Name(name, known); near != "" {
		return fmt.Sprintf("there is no -%s; did you mean -%s?", name, near)
	}
	return fmt.Sprintf("there is no -%s; %s -h lists what there is", name, fs.Name())
}
