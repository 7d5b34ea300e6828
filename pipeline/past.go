package pipeline

import (
	"encoding/json"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// past is what a log of replays stores in place of progress records, which are
// what a reader that is new, or was replaced, is judged by elsewhere: a set that
// holds all transactions which the second pass has waited for in this partition. A
// reader that shows it lacks nothing of what was replayed, also where the log no
// longer has the records. The holes of the set are filled: a little more is asked
// of the reader, and the set stays short.
type past struct {
	known bool
	set   gtid.Set
}

// pastOf returns what is stored with cursors. Of a log in which nothing was
// handled yet it is known to be empty.
func pastOf(replays bool, c Cursors) (p past) {
	if !replays {
		return p
	}
	var line marksLine
	if err := json.Unmarshal([]byte(c.Marks), &line); err == nil && line.Past != nil {
		p.set, err = gtid.Parse(*line.Past)
		p.known = err == nil
		return p
	}
	p.known = c.Second == 0
	return p
}

// add takes in what was waited for. The caller holds the backlog's mutex.
func (p *past) add(need gtid.Set) {
	if p.known && !need.Empty() && !p.set.HasAll(need) {
		p.set.Union(need)
		p.set = p.set.Hull()
	}
}

// showsPast says that a reader that shows a set has shown all that the second pass
// has waited for.
func (w *worker) showsPast(set gtid.Set) bool {
	w.backlog.mu.Lock()
	p := w.past
	w.backlog.mu.Unlock()
	return p.known && set.HasAll(p.set)
}

// withPast adds the past to marks that are to be stored. Where there is no room
// for it, it is left out, and not known to the next owner.
func (w *worker) withPast(marks string) string {
	if !w.Replays {
		return marks
	}
	w.backlog.mu.Lock()
	known, text := w.past.known, w.past.set.String()
	w.backlog.mu.Unlock()
	var line marksLine
	if marks != "" && json.Unmarshal([]byte(marks), &line) != nil || !known {
		return marks
	}
	line.Past = &text
	with, err := json.Marshal(line)
	if err != nil || len(with) > MaxMarks {
		return marks
	}
	return string(with)
}

// withoutPast returns the marks that are about readers.
func withoutPast(marks string) string {
	var line marksLine
	if json.Unmarshal([]byte(marks), &line) != nil || line.Past == nil {
		return marks
	}
	line.Past = nil
	text, err := json.Marshal(line)
	if err != nil || len(line.Readers) == 0 {
		return ""
	}
	return string(text)
}
