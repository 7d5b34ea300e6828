package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/doubletap-cdc/doubletap/replay"
)

// resume opens the state and takes the arguments from it. Those of the command
// line that may differ are kept.
func (r *replaying) resume() error {
	now := r.args
	s, err := replay.ResumeState(now.State)
	if errors.Is(err, replay.ErrNoReplay) {
		return problemsError{fmt.Sprintf("there is no replay in %s: give the folder with -state, or begin one; replay -h says how", now.State)}
	}
	if err != nil {
		return stateProblem(err)
	}
	r.state = s
	r.onClose(func() { _ = s.Close() })
	stored := newReplayArgs("")
	if err := json.Unmarshal(s.Job().Settings, stored); err != nil {
		return fmt.Errorf("read the arguments of the replay in %s: %w", now.State, err)
	}
	stored.State, stored.Yes, stored.Summary = now.State, true, now.Summary
	if now.Config != "" {
		stored.Config = now.Config
	}
	if now.Rate != 0 {
		stored.Rate = now.Rate
	}
	if now.Redis > 0 {
		stored.Redis = now.Redis
	}
	if now.Lag > 0 {
		stored.Lag = now.Lag
	}
	r.args = stored
	return nil
}

// unfinished goes on with the replay in the state folder, where this is its
// command line again.
func (r *replaying) unfinished() error {
	s, err := replay.ResumeState(r.args.State)
	if errors.Is(err, replay.ErrNoReplay) {
		return nil
	}
	if err != nil {
		return stateProblem(err)
	}
	if s.Phase() == replay.Done {
		return s.Close()
	}
	stored := newReplayArgs("")
	err = json.Unmarshal(s.Job().Settings, stored)
	moving := r.args.moving(time.Now())
	if err != nil || !stored.same(r.args) || moving != "" {
		_ = s.Close()
		problems := problemsError{fmt.Sprintf("%s holds a replay that is not done: %s", r.args.State, shellLine(append([]string{"replay"}, s.Job().Args...)...))}
		if moving != "" {
			problems = append(problems, fmt.Sprintf("%s counts from now, so this line asks for another range than it did then", moving))
		}
		return append(problems, "go on with it: "+r.resumeLine(), "or give this one a folder of its own with -state, or remove the folder to give that one up")
	}
	r.state = s
	r.onClose(func() { _ = s.Close() })
	if r.args.Verb != verbKeys {
		return nil
	}
	same, err := sameList(r.args.State, r.stdin)
	if err == nil && !same {
		err = problemsError{fmt.Sprintf("%s holds a replay of another list that is not done", r.args.State),
			"go on with it: " + r.resumeLine(), "or give this one a folder of its own with -state, or remove the folder to give that one up"}
	}
	return err
}

func stateProblem(err error) error {
	if _, ok := errors.AsType[*replay.InUseError](err); ok {
		return problemsError{err.Error()}
	}
	return err
}

// same says that two command lines ask for the same replay; how fast it may go
// is not a part of that.
func (a *replayArgs) same(b *replayArgs) bool {
	x, errX := json.Marshal(a.settings())
	y, errY := json.Marshal(b.settings())
	return errX == nil && errY == nil && string(x) == string(y)
}

// asksClock finds what SQL calls the time of the day.
var asksClock = regexp.MustCompile(`(?i)\b(now|sysdate|curdate|curtime|current_(date|time|timestamp)|localtime(stamp)?|utc_(date|time|timestamp)|unix_timestamp)\b`)

// moving returns an argument that means something else each time it is given, ""
// where there is none: a job that runs every day asks for another range with the
// same words.
func (a *replayArgs) moving(now time.Time) string {
	for _, one := range []struct{ name, text string }{{"-since", a.Since}, {"-until", a.Until}} {
		today, err := parseTime(one.text, now)
		later, errLater := parseTime(one.text, now.AddDate(0, 0, 8)) // not the same weekday
		if one.text != "" && (err != nil || errLater != nil || !today.Equal(later.Time)) {
			return shellLine(one.name, one.text)
		}
	}
	if asksClock.MatchString(a.Where) {
		return shellLine("-where", a.Where)
	}
	return ""
}

// settings are the arguments without those that may change on the way.
func (a *replayArgs) settings() *replayArgs {
	s := *a
	s.Rate, s.Redis, s.Lag, s.Summary, s.Config = 0, 0, 0, "", ""
	return &s
}

// resumeLine is the command that goes on.
func (r *replaying) resumeLine() string {
	name := os.Args[0]
	if filepath.Base(name) != "replay" {
		name = "replay"
	}
	words := []string{name, verbResume, "-state", r.args.State}
	if file := r.args.Summary; file != "" && file != "-" {
		words = append(words, "-summary", file)
	}
	return shellLine(words...)
}
