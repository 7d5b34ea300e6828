package pipeline

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// owesAll is the offset from which second deletes are owed to a reader of which
// nothing is known: all that was ever in the log.
const owesAll = -1

// marksLine is the form of Cursors.Marks.
type marksLine struct {
	Readers map[string]readerMark `json:"readers"`
	Past    *string               `json:"past,omitempty"` // see past
}

// readerMark is what a partition remembers of a reader.
type readerMark struct {
	Server string `json:"server,omitempty"`
	Out    *int64 `json:"out,omitempty"` // second deletes from here on are owed to it
}

// standing is how a partition stands with one reader. It belongs to the second
// pass's goroutine.
type standing struct {
	name   string
	server string // its identity; "" until it is known
	epoch  int    // of its last sighting; 0 before the first

	fresh bool // it was not known when ownership began, and was not seen yet
	out   bool
	from  int64     // second deletes from here on are owed to it
	since time.Time // when it was put out, or a little later
	// has is what it showed when it was found to be another server, or one whose
	// history went back: of what is below an offset it owes only the rest.
	has   *gtid.Set
	below int64
	goal  *gtid.Set // what the source showed after since

	oldEnd  int64     // it had shown what is below when ownership began
	first   *gtid.Set // what it showed at its first sighting, until that is compared with the log
	firstAt time.Time

	lacking  bool     // it holds something up
	lacks    gtid.Set // the first thing since it held nothing up, or was seen to advance
	lackedAt time.Time
}

// standings judges the configured readers by the stored marks. before says that
// a second pass has been at work already: a reader that it did not know owes
// everything. Marks that cannot be read are as good as none.
func standings(servers []Reader, stored string, second int64, before bool) []*standing {
	var line marksLine
	if err := json.Unmarshal([]byte(stored), &line); err != nil {
		line.Readers = nil
	}
	var all []*standing
	for _, r := range servers {
		st := &standing{name: r.Name()}
		m, known := line.Readers[st.name]
		st.server = m.Server
		switch {
		case known && m.Out != nil:
			// The log may have stored lower cursors than it was asked to.
			st.putOut(min(*m.Out, second))
			st.oldEnd = st.from
		case !known && before:
			st.putOut(owesAll)
			st.fresh, st.below = true, second
		case known:
			st.oldEnd = second
		}
		all = append(all, st)
	}
	return all
}

func (st *standing) putOut(from int64) {
	st.out, st.from, st.since = true, from, time.Now()
	st.has, st.goal, st.lacking = nil, nil, false
}

// lost takes in that the reader is another server, or that its history went
// back: it owes everything but what it shows now. second is the second pass's
// cursor.
func (st *standing) lost(found gtid.Set, second int64) {
	below := second
	if st.out {
		below = min(st.from, second)
	}
	st.putOut(owesAll)
	if below >= 0 {
		st.has, st.below = &found, below
	}
}

// see takes a sighting in, and returns why the reader owes everything from now
// on, or "".
func (st *standing) see(s sighting, second int64) (reason string) {
	if s.server == "" || s.epoch == st.epoch {
		return ""
	}
	switch {
	case st.fresh:
		found := s.found
		st.fresh, st.has = false, &found
	case st.server != "" && st.server != s.server:
		reason = fmt.Sprintf("it is another server than before: %s, not %s", s.server, st.server)
	case st.epoch == 0 && st.oldEnd > 0:
		first := s.shows
		st.first, st.firstAt = &first, time.Now()
	case st.epoch != 0:
		reason = "it no longer has what it has shown before, as after a restore"
	}
	if reason != "" {
		st.first = nil
		st.lost(s.found, second)
	}
	st.server, st.epoch = s.server, s.epoch
	return reason
}

// marksOf writes what is to be stored.
func marksOf(all []*standing) (string, error) {
	if len(all) == 0 {
		return "", nil
	}
	for _, short := range []bool{false, true} {
		line := marksLine{Readers: map[string]readerMark{}}
		for _, st := range all {
			m := readerMark{Server: st.server}
			if st.out {
				m.Out = &st.from
			}
			if short {
				m.Server = "" // it is believed to be the same one, then
			}
			line.Readers[st.name] = m
		}
		text, err := json.Marshal(line)
		if err == nil && len(text) <= MaxMarks {
			return string(text), nil
		}
	}
	return "", fmt.Errorf("the names of %d readers are too long to be stored with the cursors: %w", len(all), ErrFatal)
}

// Owes says whether second deletes are owed to a reader that is out, by the marks
// that are stored with a partition's cursors: the second pass will go back for it,
// however far its cursor is. Marks that cannot be read owe, since their next owner
// takes all readers for out; no marks owe nothing.
func Owes(marks string) bool {
	if marks == "" {
		return false
	}
	var line marksLine
	if err := json.Unmarshal([]byte(marks), &line); err != nil {
		return true
	}
	for _, m := range line.Readers {
		if m.Out != nil {
			return true
		}
	}
	return false
}

// again is what need not be deleted again after the second pass was moved back
// for a reader: below an offset, what the reader had.
type again struct {
	end int64
	has gtid.Set
}

func (a *again) skips(offset int64, name string) bool {
	if a == nil || offset >= a.end || name == "" {
		return false
	}
	if a.has.Has(name) {
		return true
	}
	set, err := gtid.Parse(name)
	return err == nil && !set.Empty() && a.has.HasAll(set)
}

// sighted returns the sighting of a reader.
func sighted(all []sighting, name string) sighting {
	i := slices.IndexFunc(all, func(s sighting) bool { return s.name == name })
	return all[i]
}
