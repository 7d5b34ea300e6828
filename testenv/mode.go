package testenv

import (
	"fmt"
	"os"
	"strings"
)

// Mode says how servers are started.
type Mode string

const (
	Auto   Mode = "auto"   // Docker where an engine answers and has the images, else Native
	Docker Mode = "docker" // containers only
	Native Mode = "native" // processes only
)

// ModeFromEnv reads the variable TESTENV: auto (also when unset), docker, native or require, or two of them joined by a
// comma. Require is true where a server that cannot start must fail a test, not skip it.
func ModeFromEnv() (mode Mode, require bool, err error) {
	return parseMode(os.Getenv("TESTENV"))
}

func parseMode(text string) (mode Mode, require bool, err error) {
	mode = Auto
	chosen := false
	for word := range strings.SplitSeq(text, ",") {
		switch word = strings.ToLower(strings.TrimSpace(word)); word {
		case "":
		case "require":
			require = true
		case string(Auto), string(Docker), string(Native):
			if chosen && mode != Mode(word) {
				return "", false, fmt.Errorf("TESTENV=%q names two modes: keep one of auto, docker, native", text)
			}
			mode, chosen = Mode(word), true
		default:
			return "", false, fmt.Errorf("TESTENV=%q: %q is unknown: use auto, docker, native or require, or for example \"native,require\"", text, word)
		}
	}
	return mode, require, nil
}
