package keys

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// filter changes a value's text before it is encoded.
type filter struct {
	name  string
	apply func(string) (string, error)
}

// filters are all filters that a template may name.
var filters = []filter{
	{"lower", func(s string) (string, error) { return mapRunes(s, unicode.ToLower), nil }},
	{"upper", func(s string) (string, error) { return mapRunes(s, unicode.ToUpper), nil }},
	{"trim", func(s string) (string, error) { return strings.TrimRight(s, " "), nil }},
	{"date", dayOf},
}

func filterNames() []string {
	names := make([]string, len(filters))
	for i, f := range filters {
		names[i] = f.name
	}
	return names
}

// mapRunes maps each code point and leaves ill-formed bytes as they are
// (strings.Map would replace them, and so merge different values).
func mapRunes(s string, f func(rune) rune) string {
	changed := -1
	for i, r := range s {
		if r != utf8.RuneError && f(r) != r {
			changed = i
			break
		}
	}
	if changed < 0 {
		return s
	}
	out := append(make([]byte, 0, len(s)+4), s[:changed]...)
	for i := changed; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError {
			out = append(out, s[i:i+n]...)
		} else {
			out = utf8.AppendRune(out, f(r))
		}
		i += n
	}
	return string(out)
}

var errNoDate = errors.New("the filter date needs a DATE, DATETIME or TIMESTAMP")

// dayOf cuts the day out of canonical DATE, DATETIME and TIMESTAMP text.
func dayOf(s string) (string, error) {
	const day = len("2006-01-02")
	if len(s) < day || len(s) > day && s[day] != ' ' {
		return "", errNoDate
	}
	for i := range day {
		if i == 4 || i == 7 {
			if s[i] != '-' {
				return "", errNoDate
			}
		} else if s[i] < '0' || s[i] > '9' {
			return "", errNoDate
		}
	}
	return s[:day], nil
}
