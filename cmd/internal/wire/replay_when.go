package wire

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/internal/nearest"
)

// timeForms says how a time may be written.
const timeForms = `2026-11-17, "2026-11-17 08:30", tuesday (the last one, or today, at 00:00) and yesterday are in this machine's time zone; 2026-11-17T08:30:00Z has its own; "3h ago" or "2d12h ago" count back from now`

// instant is a time, and how it was written.
type instant struct {
	time.Time
	text string
}

// String says how the time was read.
func (i instant) String() string {
	if i.text == "" {
		return "now"
	}
	return fmt.Sprintf("%s (%q)", i.Format("Mon 2006-01-02 15:04:05 MST -07:00"), i.text)
}

var layouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z07:00",
	"2006-01-02 15:04:05.999999999", "2006-01-02 15:04", "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", time.DateOnly,
}

var ago = regexp.MustCompile(`^((?:\d+[a-z]+)+)(?: ago)?$`)
var agoParts = regexp.MustCompile(`(\d+)([a-z]+)`)

var units = map[string]time.Duration{
	"w": 7 * 24 * time.Hour, "week": 7 * 24 * time.Hour, "d": 24 * time.Hour, "day": 24 * time.Hour,
	"h": time.Hour, "hour": time.Hour, "m": time.Minute, "min": time.Minute, "minute": time.Minute,
	"s": time.Second, "sec": time.Second, "second": time.Second,
}

// parseTime reads a time as people write it. Without a zone it is in now's.
func parseTime(text string, now time.Time) (instant, error) {
	clean := strings.Join(strings.Fields(strings.ToLower(text)), " ")
	for _, layout := range layouts {
		if t, err := time.ParseInLocation(layout, strings.ToUpper(clean), now.Location()); err == nil {
			return instant{t, text}, nil
		}
	}
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	words := map[string]time.Time{"now": now, "today": midnight, "yesterday": midnight.AddDate(0, 0, -1)}
	for back := range 7 {
		day := midnight.AddDate(0, 0, -back)
		words[strings.ToLower(day.Weekday().String())] = day
	}
	if t, ok := words[clean]; ok {
		return instant{t, text}, nil
	}
	if d, ok := parseAgo(clean); ok {
		return instant{now.Add(-d), text}, nil
	}
	known := make([]string, 0, len(words))
	for w := range words {
		known = append(known, w)
	}
	if near := nearest.Name(clean, known); near != "" {
		return instant{}, fmt.Errorf("%q is no time; did you mean %s?", text, near)
	}
	return instant{}, fmt.Errorf("%q is no time: write %s", text, timeForms)
}

// parseAgo reads "3h ago", "2d12h", "90 minutes ago".
func parseAgo(s string) (d time.Duration, ok bool) {
	body, said := strings.CutSuffix(s, " ago")
	s = strings.ReplaceAll(body, " ", "")
	if said {
		s += " ago"
	}
	m := ago.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	for _, part := range agoParts.FindAllStringSubmatch(m[1], -1) {
		unit, ok := units[part[2]]
		if !ok {
			unit, ok = units[strings.TrimSuffix(part[2], "s")]
		}
		n, err := strconv.Atoi(part[1])
		if !ok || err != nil || n > int(100*366*24*time.Hour/unit) {
			return 0, false
		}
		d += time.Duration(n) * unit
	}
	return d, true
}
