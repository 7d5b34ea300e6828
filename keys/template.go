package keys

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// template is a parsed key: prefix, then holes, each followed by literal text.
type template struct {
	source string
	prefix string
	holes  []hole
	cols   []string // distinct columns of the holes, as first written
}

// hole is one placeholder and the literal text after it.
type hole struct {
	col     int // index in template.cols
	filters []filter
	bare    bool // alone between literal braces: must not come out empty
	after   string
}

// parseTemplate parses the text of a rule's key.
func parseTemplate(src string) (*template, error) {
	t := &template{source: src}
	if err := t.scan(src); err != nil {
		return nil, err
	}
	if err := t.check(); err != nil {
		return t, err
	}
	return t, t.checkOwn()
}

// scan splits src into literals and placeholders.
func (t *template) scan(src string) error {
	var lit strings.Builder
	flush := func() {
		if n := len(t.holes); n > 0 {
			t.holes[n-1].after = lit.String()
		} else {
			t.prefix = lit.String()
		}
		lit.Reset()
	}
	for i := 0; i < len(src); {
		switch {
		case strings.HasPrefix(src[i:], "{{"), strings.HasPrefix(src[i:], "}}"):
			lit.WriteByte(src[i])
			i += 2
		case src[i] == '}':
			return fmt.Errorf("a } without its { at byte %d: write }} for a literal brace", i+1)
		case src[i] == '{':
			n, err := t.scanHole(src[i:], flush)
			if err != nil {
				return err
			}
			i += n
		default:
			r, n := utf8.DecodeRuneInString(src[i:])
			if unicode.IsControl(r) {
				return fmt.Errorf("a control character (%U) at byte %d: keys hold none", r, i+1)
			}
			lit.WriteString(src[i : i+n])
			i += n
		}
	}
	flush()
	return nil
}

// scanHole reads one placeholder at the start of s and returns its length.
func (t *template) scanHole(s string, flush func()) (int, error) {
	body, n, ok := cutHole(s)
	if !ok {
		return 0, fmt.Errorf("%q has no closing }: write {{ for a literal brace", s)
	}
	if strings.HasPrefix(strings.TrimSpace(body), "@") {
		return 0, fmt.Errorf("%q: epochs are not supported in this version", s[:n])
	}
	name, rest, err := cutColumn(body)
	if err != nil {
		return 0, fmt.Errorf("%q: %w", s[:n], err)
	}
	h := hole{col: t.column(name)}
	if rest != "" {
		for word := range strings.SplitSeq(rest[1:], "|") {
			f, err := findFilter(strings.TrimSpace(word))
			if err != nil {
				return 0, fmt.Errorf("%q: %w", s[:n], err)
			}
			h.filters = append(h.filters, f)
		}
	}
	flush()
	t.holes = append(t.holes, h)
	return n, nil
}

// cutHole returns what is between the braces at the start of s, and the
// length with them. Braces within backticks do not count.
func cutHole(s string) (body string, n int, ok bool) {
	quoted := false
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '`':
			quoted = !quoted
		case '}':
			if !quoted {
				return s[1:i], i + 1, true
			}
		}
	}
	return "", 0, false
}

// cutColumn splits "name|filter|filter" into the name and "|filter|filter".
func cutColumn(body string) (name, rest string, err error) {
	body = strings.TrimSpace(body)
	if strings.HasPrefix(body, "`") {
		name, rest, err = cutQuoted(body)
		rest = strings.TrimSpace(rest)
		if err == nil && rest != "" && rest[0] != '|' {
			err = fmt.Errorf("unexpected %q after the column", rest)
		}
		return name, rest, err
	}
	name = body
	if i := strings.IndexByte(body, '|'); i >= 0 {
		name, rest = strings.TrimSpace(body[:i]), body[i:]
	}
	if name == "" {
		return "", "", errors.New("a column name is missing")
	}
	for _, r := range name {
		if !plainNameRune(r) {
			return "", "", fmt.Errorf("%q is not a plain column name: write it in backticks", name)
		}
	}
	return name, rest, nil
}

// cutQuoted takes a name in backticks (doubled inside) off the start of s.
func cutQuoted(s string) (name, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '`' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '`' {
			b.WriteByte('`')
			i++
			continue
		}
		if b.Len() == 0 {
			return "", "", errors.New("an empty name in backticks")
		}
		return b.String(), s[i+1:], nil
	}
	return "", "", errors.New("a name without its closing backtick")
}

// plainNameRune tells which characters MySQL takes in a name without quotes.
func plainNameRune(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return true
	}
	return r == '_' || r == '$' || r >= 0x80 && r != utf8.RuneError
}

func findFilter(name string) (filter, error) {
	for _, f := range filters {
		if f.name == name {
			return f, nil
		}
	}
	return filter{}, fmt.Errorf("unknown filter %q: there are %s", name, strings.Join(filterNames(), ", "))
}

// column returns the index of name in t.cols and adds it if it is new.
func (t *template) column(name string) int {
	for i, c := range t.cols {
		if strings.EqualFold(c, name) {
			return i
		}
	}
	t.cols = append(t.cols, name)
	return len(t.cols) - 1
}

// check holds what makes keys unforgeable and whole-table invalidation safe,
// and marks the placeholders that must not come out empty.
func (t *template) check() error {
	if t.prefix == "" {
		return errors.New("the key must begin with literal text, which whole-table invalidation needs: write user:{id}, not {id}")
	}
	before := t.prefix
	for i := range t.holes {
		h := &t.holes[i]
		h.bare = strings.HasSuffix(before, "{") && strings.HasPrefix(h.after, "}")
		before = h.after
		if i == len(t.holes)-1 {
			break
		}
		switch {
		case h.after == "":
			return fmt.Errorf("no literal text between {%s} and {%s}: different values would make the same key",
				t.cols[h.col], t.cols[t.holes[i+1].col])
		case firstSeparator(h.after) < 0:
			return fmt.Errorf("%q between {%s} and {%s} can be part of a value, so different values would make the same key: put one of : / , ; # | ! = there",
				h.after, t.cols[h.col], t.cols[t.holes[i+1].col])
		}
	}
	return nil
}

// checkNull refuses a text for NULL that could be taken for something else in
// a key of this template. The text's first separating byte must not occur
// between placeholders: so it tells NULL from a value and the literal after it.
func (t *template) checkNull(null string) error {
	if strings.ContainsAny(null, "{}") {
		return fmt.Errorf("%q holds a brace, which could change the key's slot in a Redis Cluster", null)
	}
	i := firstSeparator(null)
	if i < 0 {
		return fmt.Errorf("%q could also be a value: put a character in it that values never hold unescaped, such as %q", null, "!"+null)
	}
	if strings.IndexFunc(null, unicode.IsControl) >= 0 {
		return fmt.Errorf("%q holds a control character: keys hold none", null)
	}
	for k := 0; k+1 < len(t.holes); k++ {
		if strings.IndexByte(t.holes[k].after, null[i]) >= 0 {
			return fmt.Errorf("%q has %q, which also separates the key's values: use another character, such as %q", null, null[i:i+1], "!")
		}
	}
	return nil
}

// pattern returns the Redis glob of all keys of the template.
func (t *template) pattern() string {
	var b strings.Builder
	globQuote(&b, t.prefix)
	for _, h := range t.holes {
		b.WriteByte('*')
		globQuote(&b, h.after)
	}
	return b.String()
}

func globQuote(b *strings.Builder, literal string) {
	for i := range len(literal) {
		switch literal[i] {
		case '*', '?', '[', ']', '\\':
			b.WriteByte('\\')
		}
		b.WriteByte(literal[i])
	}
}
