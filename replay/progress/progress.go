// Package progress shows how far a replay is: a bar on a terminal, and plain
// lines elsewhere, such as in a log or a CI job. It is apart from package replay
// so that the core needs no terminal library.
package progress

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/doubletap-cdc/doubletap/replay"
)

// Display shows progress. It is also where everything else goes that is written to
// the same place meanwhile, such as log lines: it keeps them off the bar's line. It
// is safe for concurrent use.
type Display struct {
	w     io.Writer
	width int // of the terminal; 0 where it is none

	mu    sync.Mutex
	bar   *progressbar.ProgressBar
	phase replay.Phase
	shown time.Time
	last  string
}

const (
	steps     = 10_000 // of the bar
	wide      = 100    // columns from which on the bar may be long
	barLong   = 24
	barShort  = 10
	barFrame  = len(" 100% |") + len("|  ") + 2 // what stands beside the bar; the last column stays free
	spinFrame = 5                               // the same beside a spinner
	lineEvery = 5 * time.Second
	clearLine = "\r\x1b[K"
)

// New returns a Display that writes to w: a bar if that is a terminal.
func New(w io.Writer) *Display {
	d := &Display{w: w}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) { //nolint:gosec // a file descriptor is small
		return d
	}
	// Where the width is not known, the text is kept short enough for any.
	d.width = 80
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 { //nolint:gosec // as above
		d.width = width
	}
	return d
}

// Width returns how many columns the terminal has; 0 where there is none.
func (d *Display) Width() int { return d.width }

// Write implements io.Writer for whole lines: the bar makes room for them.
func (d *Display) Write(text []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bar != nil { // it is drawn again with the next progress
		if _, err := io.WriteString(d.w, clearLine); err != nil {
			return 0, err
		}
	}
	return d.w.Write(text)
}

// Show shows p. What cannot be written is lost: a replay does not end for that.
func (d *Display) Show(p replay.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.width == 0 {
		d.line(p)
		return
	}
	bar := barLong
	if d.width < wide {
		bar = barShort
	}
	if d.bar == nil {
		d.bar = newBar(d.w, bar, p.Done < 0)
	}
	room := d.width - bar - barFrame
	if p.Done < 0 {
		room = d.width - spinFrame
	}
	d.bar.Describe(fit(p, room))
	at := int64(0)
	if p.Done >= 0 {
		// Never the last step: the library ends the bar there, and the passes are
		// still at work when all is published.
		at = min(int64(p.Done*steps), steps-1)
	}
	_ = d.bar.Set64(at)
}

func newBar(w io.Writer, width int, unknown bool) *progressbar.ProgressBar {
	length := int64(steps)
	if unknown {
		length = -1 // a spinner
	}
	return progressbar.NewOptions64(length,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetWidth(width),
		progressbar.OptionSetPredictTime(false), // ours knows about the pace
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionShowDescriptionAtLineEnd(),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionSpinnerType(14),
		progressbar.OptionSetSpinnerChangeInterval(0), // else it writes by itself, beside log lines and the end
		progressbar.OptionSetTheme(progressbar.Theme{Saucer: "#", SaucerPadding: " ", BarStart: "|", BarEnd: "|"}),
	)
}

// line writes a line now and then, and whenever the phase changes.
func (d *Display) line(p replay.Progress) {
	now := time.Now()
	if p.Phase == d.phase && now.Sub(d.shown) < lineEvery {
		return
	}
	d.phase, d.shown = p.Phase, now
	text := Text(p)
	if (p.Phase == replay.Reading || p.Phase == replay.Planning) && p.Done >= 0 {
		text = fmt.Sprintf("%d%%: %s", int(p.Done*100), text)
	}
	if text != d.last {
		d.last = text
		_, _ = fmt.Fprintln(d.w, text)
	}
}

// End leaves the bar as it is and goes to a new line.
func (d *Display) End() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bar != nil {
		_ = d.bar.Exit()
		_, _ = fmt.Fprintln(d.w)
		d.bar = nil
	}
}

// Text says in one line what p says, without the share that is done.
func Text(p replay.Progress) string { return texts(p)[0] }

// texts says it from long to short: figures go before what holds the replay back.
func texts(p replay.Progress) []string {
	long, short := still(p)
	switch p.Phase {
	case replay.Done:
		return []string{fmt.Sprintf("done: %s keys of %s rows", Number(p.Keys), Number(p.Rows))}
	case replay.Draining:
		left := fmt.Sprintf("left: first pass %s, second pass %s", Number(p.Backlog.First), Number(p.Backlog.Second))
		return []string{"all is published; records " + left + long, "records " + left + long, "records " + left + short, left + short}
	case replay.Planning, replay.Reading:
	}
	keys, rate, until := Number(p.Keys)+" keys", ", "+Number(int64(p.Rate))+" keys/s", ""
	if p.Phase == replay.Planning {
		keys, rate = "looking at what is to be replayed", ""
	}
	if p.Left >= 0 {
		until = ", " + left(p.Left) + " left"
	}
	why := ""
	switch {
	case p.Pace.Stopped && p.Pace.Reason != "":
		why = "; waiting: " + p.Pace.Reason
	case p.Pace.Reason != "":
		why = "; slower: " + p.Pace.Reason
	}
	all := []string{keys + rate + until + why + long, keys + rate + until + why + short, keys + until + why + short, keys + why + short}
	if short != "" {
		all = append(all, keys+short)
	}
	return all
}

// stillAfter is how long the first pass must stand still until it is said. Where it
// is is stored twice a second, and not at all while partitions change hands.
const stillAfter = 5 * time.Second

// still says that nothing is deleted, at length and in short.
func still(p replay.Progress) (long, short string) {
	if p.Still < stillAfter {
		return "", ""
	}
	short = "; no delete for " + left(p.Still)
	return fmt.Sprintf("; the first pass has stood still for %s: live changes go first, or nobody handles the log of replays", left(p.Still)), short
}

// left rounds to what an estimate is worth.
func left(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// Number writes n in groups of three digits.
func Number(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i, c := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return sign + b.String()
}

// fit is the longest text that has room in n characters, or what fits of the
// shortest, so that a line of the bar does not become two.
func fit(p replay.Progress, n int) string {
	n = max(n, 20)
	text := ""
	for _, text = range texts(p) {
		if utf8.RuneCountInString(text) <= n {
			return text
		}
	}
	return string([]rune(text)[:n-1]) + "…"
}
