package history

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// gtidSpan is the least and the last transaction of each server, or of each
// domain of MariaDB: a set that is as short as there are servers.
type gtidSpan struct {
	of      map[string]*numbers
	maria   bool
	unknown bool // of one event it is not known which transaction it is of
}

type numbers struct {
	least, last int64
	server      string // of the last, in a domain of MariaDB
}

// add adds the transaction of an event.
func (s *gtidSpan) add(id string) {
	part, server, n, ok := splitGTID(id)
	if !ok {
		s.unknown = true
		return
	}
	if s.of == nil {
		s.of, s.maria = map[string]*numbers{}, server != ""
	}
	at := s.of[part]
	if at == nil {
		at = &numbers{least: n}
		s.of[part] = at
	}
	at.least = min(at.least, n)
	if n >= at.last {
		at.last, at.server = n, server
	}
}

// splitGTID takes "uuid:n", "uuid:tag:n" and MariaDB's "domain-server-n" apart.
func splitGTID(id string) (part, server string, n int64, ok bool) {
	i := strings.LastIndexByte(id, ':')
	if i < 0 {
		if i = strings.LastIndexByte(id, '-'); i < 0 {
			return "", "", 0, false
		}
		part, server, ok = strings.Cut(id[:i], "-")
		if !ok {
			return "", "", 0, false
		}
	} else {
		part = strings.ToLower(id[:i])
	}
	n, err := strconv.ParseInt(id[i+1:], 10, 64)
	return part, server, n, err == nil && n > 0
}

// sets returns a set that holds all of them, and for MariaDB, whose sets begin at
// the first transaction ever, what lies before.
func (s *gtidSpan) sets() (set, after string) {
	if s.unknown {
		return "", ""
	}
	var sets, afters []string
	for _, part := range slices.Sorted(maps.Keys(s.of)) {
		n := s.of[part]
		if !s.maria {
			sets = append(sets, part+":"+strconv.FormatInt(n.least, 10)+"-"+strconv.FormatInt(n.last, 10))
			continue
		}
		sets = append(sets, part+"-"+n.server+"-"+strconv.FormatInt(n.last, 10))
		if n.least > 1 {
			afters = append(afters, part+"-"+n.server+"-"+strconv.FormatInt(n.least-1, 10))
		}
	}
	return normal(sets), normal(afters)
}

// normal joins sets and writes them as the server would.
func normal(sets []string) string {
	text := strings.Join(sets, ",")
	if set, err := gtid.Parse(text); err == nil {
		return set.String()
	}
	return text
}

// spare returns begin without what the span holds: a transaction that came again
// may lie before where the tailer had been. least is sets' after.
func (s *gtidSpan) spare(begin gtid.Set, least string) string {
	if len(s.of) == 0 {
		return begin.String()
	}
	if !s.maria {
		hull, _ := s.sets()
		if set, err := gtid.Parse(hull); err == nil {
			return begin.Minus(set).String()
		}
		return ""
	}
	// What is before the least transaction of a domain, of domains with events; of
	// others what was there before.
	before, err := gtid.Parse(least)
	if err != nil {
		return ""
	}
	var kept []string
	for _, id := range strings.Split(begin.String(), ",") {
		if part, _, n, ok := splitGTID(strings.TrimSpace(id)); ok {
			if at := s.of[part]; at != nil && n >= at.least {
				continue
			}
			kept = append(kept, strings.TrimSpace(id))
		}
	}
	for _, id := range strings.Split(before.String(), ",") {
		part, _, _, ok := splitGTID(strings.TrimSpace(id))
		if ok && !slices.ContainsFunc(kept, func(k string) bool { return strings.HasPrefix(k, part+"-") }) && strings.Contains(","+begin.String(), ","+part+"-") {
			kept = append(kept, strings.TrimSpace(id))
		}
	}
	return normal(kept)
}
