package wire

import (
	_ "embed"
	"flag"
	"fmt"
	"io"
	"strings"
)

// The manual pages. A line "@options" stands for the flags, "@common" for what
// all pages end with.
var (
	//go:embed replay_help/replay.txt
	helpReplay string
	//go:embed replay_help/log.txt
	helpLog string
	//go:embed replay_help/binlog.txt
	helpBinlog string
	//go:embed replay_help/table.txt
	helpTable string
	//go:embed replay_help/keys.txt
	helpKeys string
	//go:embed replay_help/dead.txt
	helpDead string
	//go:embed replay_help/resume.txt
	helpResume string
	//go:embed replay_help/common.txt
	helpCommon string
)

var manual = map[string]string{
	"": helpReplay, verbLog: helpLog, verbBinlog: helpBinlog, verbTable: helpTable,
	verbKeys: helpKeys, verbDead: helpDead, verbResume: helpResume,
}

// writeHelp prints the page of a subcommand, or of the whole command.
func writeHelp(w io.Writer, verb string) {
	text := strings.ReplaceAll(manual[verb], "@common\n", helpCommon)
	before, after, ok := strings.Cut(text, "@options\n")
	fmt.Fprint(w, before)
	if ok {
		writeOptions(w, newReplayArgs(verb).flags())
	}
	fmt.Fprint(w, after)
}

// writeOptions prints the flags, as manual pages do.
func writeOptions(w io.Writer, fs *flag.FlagSet) {
	fs.VisitAll(func(f *flag.Flag) {
		name, usage := flag.UnquoteUsage(f)
		if name != "" {
			if !strings.Contains(name, "|") {
				name = strings.ToUpper(name)
			}
			name = " " + name
		}
		usage = strings.ToUpper(usage[:1]) + usage[1:]
		if !strings.Contains(usage, "efault") && f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "-1" {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(w, "  -%s%s\n", f.Name, name)
		for _, line := range wrap(usage+".", 70) {
			fmt.Fprintf(w, "        %s\n", line)
		}
	})
}

// wrap breaks a text into lines of at most width characters, where words allow.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
