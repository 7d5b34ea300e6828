package wire

import (
	"fmt"
	"io"
	"time"
)

// Replay is the command replay. It returns the exit code. stdin is asked for the
// answer to its question, and for lists of keys.
func Replay(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if verb, ok := helpWanted(args); ok {
		writeHelp(stdout, verb)
		return ExitOK
	}
	if len(args) == 1 && (args[0] == "-version" || args[0] == "--version") {
		fmt.Fprintln(stdout, "replay", version())
		return ExitOK
	}
	a, problems := parseReplay(args, time.Now())
	if len(problems) > 0 {
		sayProblems(stderr, problems)
		return ExitUsage
	}
	_ = a
	return ExitRuntime
}

func sayProblems(w io.Writer, problems []string) {
	for _, p := range problems {
		fmt.Fprintf(w, "replay: %s\n", p)
	}
}
