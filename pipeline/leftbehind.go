package pipeline

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
)

// leftBehind returns the readers that were out when the marks were stored and are no
// longer configured, and from where second deletes are owed to them: what they had
// put into the cache when they were put out is still there.
func leftBehind(servers []Reader, stored string) (names []string, from int64) {
	var line marksLine
	if err := json.Unmarshal([]byte(stored), &line); err != nil {
		return nil, 0 // whoever is configured owes everything, then
	}
	for name, m := range line.Readers {
		if m.Out == nil || slices.ContainsFunc(servers, func(r Reader) bool { return r.Name() == name }) {
			continue
		}
		if names = append(names, name); len(names) == 1 || *m.Out < from {
			from = *m.Out
		}
	}
	slices.Sort(names)
	return names, from
}

// repay has second deletes made that were owed to readers which are no longer
// configured. The second cursor is where they begin, or all is swept.
func (w *worker) repay(left []string, from int64) {
	for _, name := range left {
		w.tellOut(&standing{name: name, from: from}, "it is no longer configured: what was owed to it is deleted now")
	}
	switch {
	case len(left) == 0:
	case from >= 0:
		w.began = math.MaxInt64 // sweeps, too
	case w.gap == "": // a gap has everything swept twice
		w.everything = newPlanner(w.Schema, w.lanes, nil).everything("all that readers showed which are no longer configured: " + strings.Join(left, ", "))
		w.sweeper.addGap(Second, w.everything.fill, w.everything.patterns)
	}
}
