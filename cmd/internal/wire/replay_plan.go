package wire

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/progress"
)

// planText is what is printed before anything is deleted.
type planText struct {
	What     []string // what is read, and how times were understood
	Rows     int64    // below 0: not known
	Exact    bool     // Rows were counted
	Schema   string   // the key schema's file and hash
	Old      string   // the same of -old-keys; "" without
	Target   string
	Pace     string
	State    string
	Warnings []string
	DryRun   bool
}

// planWidth is how wide a plan is where nothing says how much room there is, and at
// most.
const planWidth = 100

// write prints the plan, in lines of at most width characters where words allow.
func (p *planText) write(w io.Writer, width int) {
	if width <= 0 || width > planWidth {
		width = planWidth
	}
	row := func(label, text string) {
		for _, line := range wrap(text, width-12) { // 11 in front, and the last column stays free
			fmt.Fprintf(w, "  %-8s %s\n", label, line)
			label = ""
		}
	}
	title := "The plan:"
	if p.DryRun {
		title = "The plan of a dry run, which deletes nothing:"
	}
	fmt.Fprintf(w, "%s\n\n", title)
	for i, line := range p.What {
		row(map[bool]string{true: "read"}[i == 0], line)
	}
	if p.Rows >= 0 {
		about := "about "
		if p.Exact {
			about = ""
		}
		row("rows", about+progress.Number(p.Rows))
	}
	row("keys by", p.Schema)
	if p.Old != "" {
		row("", "and "+p.Old)
	}
	if p.Target != "" {
		row("target", p.Target)
	}
	row("pace", p.Pace)
	if !p.DryRun {
		row("state", p.State)
	}
	if len(p.Warnings) > 0 {
		fmt.Fprint(w, "\n  Mind:\n")
	}
	for _, warning := range p.Warnings {
		for i, line := range wrap(warning, width-5) {
			fmt.Fprintf(w, "  %s %s\n", map[bool]string{true: "-", false: " "}[i == 0], line)
		}
	}
	fmt.Fprintln(w)
}

// paceText says how fast a replay may go.
func paceText(rate int, redis, lag time.Duration) string {
	limit := fmt.Sprintf("at most %s keys/s", progress.Number(int64(cmp.Or(rate, replay.UsualMax))))
	if rate < 0 {
		limit = "as fast as it can"
	}
	return fmt.Sprintf("%s; slower while Redis takes %v longer than at its best, paused while live deletes are later than %v", limit, redis, lag)
}

// errNo says that the question was answered with no.
var errNo = errors.New("answered with no")

// errNobody says that there is nobody to ask.
var errNobody = errors.New("nothing is deleted without a yes, and there is no terminal to ask on: add -yes")

// ask asks whether to go on. in must be a terminal, unless it is read for a list of
// keys: then the terminal itself is asked.
func ask(ctx context.Context, in io.Reader, out io.Writer, listed bool) error {
	if listed {
		tty, err := os.Open("/dev/tty")
		if err != nil {
			return errNobody
		}
		defer tty.Close()
		in = tty
	} else if !isTerminal(in) {
		return errNobody
	}
	return question(ctx, in, out)
}

// question asks once. Anything but yes is no.
func question(ctx context.Context, in io.Reader, out io.Writer) error {
	fmt.Fprint(out, "Delete these keys? [y/N] ")
	answer := make(chan string, 1)
	go func() { // a read from a terminal cannot be interrupted; the process ends soon after
		line, _ := bufio.NewReader(in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(out)
		return ctx.Err()
	case a := <-answer:
		if a == "y" || a == "yes" {
			return nil
		}
		return errNo
	}
}

func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// shellQuote writes an argument as a shell reads it.
func shellQuote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-=:,@%+") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func shellLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellQuote(w)
	}
	return strings.Join(quoted, " ")
}
