package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"maps"

	"golang.org/x/term"
)

// screen prints the demonstration: a line a second, which reads the same on a
// terminal and in a file.
type screen struct {
	mu     sync.Mutex
	w      io.Writer
	color  bool
	began  time.Time
	before numbers
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w, began: time.Now()}
	if f, ok := w.(*os.File); ok {
		s.color = term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""
	}
	return s
}

const (
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	red   = "\x1b[1;31m"
	green = "\x1b[1;32m"
	plain = "\x1b[0m"
)

func (s *screen) paint(style, text string) string {
	if !s.color {
		return text
	}
	return style + text + plain
}

func (s *screen) print(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, format, args...)
}

func (s *screen) say(format string, args ...any) {
	s.print("%s\n", s.paint(dim, "  "+fmt.Sprintf(format, args...)))
}

func (s *screen) title(text string) { s.print("\n%s\n\n", s.paint(bold, text)) }

func (s *screen) header() {
	s.before = numbers{}
	s.print("  %7s %9s %9s %12s %13s  %s\n", "commits", "reads", "fills", "1st deletes", "2nd deletes", "lag (commit to 1st delete, p99)")
}

func (s *screen) line(l *load, n numbers, note string) {
	lag := p99(s.before.latency, n.latency)
	s.before = n
	if note != "" {
		note = "  ← " + note
	}
	s.print("  %7d %9d %9d %12.0f %13.0f  %-10s%s\n", l.commits.Load(), l.reads.Load(), l.fills.Load(), n.first, n.second, lag, s.paint(bold, note))
}

// p99 is the upper bound of the bucket that holds the 99th percentile of what
// came between two readings.
func p99(before, after map[float64]float64) string {
	bounds := slices.Sorted(maps.Keys(after))
	if len(bounds) == 0 {
		return "-"
	}
	count := func(b float64) float64 { return after[b] - before[b] }
	total := count(bounds[len(bounds)-1])
	if total == 0 {
		return "-"
	}
	for _, b := range bounds {
		if count(b) >= 0.99*total {
			return "≤ " + time.Duration(b*float64(time.Second)).String()
		}
	}
	return "?"
}

// verdict says what was found and whether it is what doubletap promises.
func (s *screen) verdict(off, on, total int, sabotage string) bool {
	s.title("Verdict")
	s.print("  stale keys found without doubletap: %4d of %d\n", off, total)
	s.print("  stale keys found with doubletap:    %4d of %d\n\n", on, total)
	ok := off > 0 && on == 0
	switch {
	case ok && sabotage != "":
		s.print("  %s\n", s.paint(red, "The sabotage did not show: this demonstration would not notice a missing "+sabotage+"."))
	case ok:
		s.print("  %s\n", s.paint(green, "GREEN: no key was left stale."))
	case off == 0:
		s.print("  %s\n", s.paint(red, "RED: the load made nothing stale even without doubletap, so it shows nothing."))
	case sabotage != "":
		s.print("  %s\n", s.paint(red, "RED, as it must be: without its "+sabotage+" stale keys are left."))
	default:
		s.print("  %s\n", s.paint(red, "RED: keys were left stale. This is a bug; please report it with what was printed above."))
	}
	return ok
}

func (s *screen) end() {
	s.print("  took %s; nothing is left running\n", time.Since(s.began).Round(time.Second))
}
