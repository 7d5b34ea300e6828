package model

import (
	"fmt"
	"strings"
)

func (a set) String() string {
	var names []string
	for t := set(1); t < 1<<maxTxns; t <<= 1 {
		if a.has(t) {
			names = append(names, txnNames[t])
		}
	}
	return "{" + strings.Join(names, " ") + "}"
}

func (e entry) String() string {
	if e&whole != 0 {
		return "everything up to " + set(e&^whole).String()
	}
	return txnNames[set(e)]
}

func (v content) String() string {
	switch {
	case v == absent:
		return "absent"
	case v&isLease != 0:
		return fmt.Sprintf("lease of %s", fillerNames[v>>4&1])
	}
	return set(v &^ isValue).String()
}

// show prints a trace: each step, and what there is after it.
func (c *config) show(trace []Taken[state]) string {
	var b strings.Builder
	for i, step := range trace {
		s := step.State
		what := "the beginning"
		if i > 0 {
			what = step.Who + ": " + step.What
		}
		replica := ""
		if c.replica {
			replica = fmt.Sprintf(" replica %v,", s.replica)
		}
		fmt.Fprintf(&b, "%3d. %-70s source %v,%s log %v, passes %d %d, key %v\n",
			i, what, s.visible, replica, s.log[:s.end], s.first, s.second, s.key)
	}
	return b.String()
}
