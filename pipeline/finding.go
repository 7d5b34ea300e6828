package pipeline

import "fmt"

// Severity says what a preflight finding means for the start.
type Severity int

// Severities.
const (
	Note    Severity = iota // worth knowing
	Warning                 // weakens a promise; start goes on
	Refusal                 // start is refused
)

func (s Severity) String() string {
	switch s {
	case Note:
		return "note"
	case Warning:
		return "warning"
	default:
		return "refused"
	}
}

// Finding is one result of a preflight check.
type Finding struct {
	Severity Severity
	Check    string // what was looked at: "binlog_row_image"
	Problem  string // what was found
	Fix      string // what to do now: a statement, a setting, a grant
}

func (f Finding) String() string {
	if f.Fix == "" {
		return fmt.Sprintf("%s: %s: %s", f.Severity, f.Check, f.Problem)
	}
	return fmt.Sprintf("%s: %s: %s; fix: %s", f.Severity, f.Check, f.Problem, f.Fix)
}
