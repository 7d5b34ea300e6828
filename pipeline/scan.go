package pipeline

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads JSON from a string, of which the texts that it returns are
// parts where they can be. The first error stays: after it every method returns
// at once, and every loop ends.
type scanner struct {
	s   string
	i   int
	err error
}

func newScanner(data []byte) scanner {
	p := scanner{s: string(data)}
	if !utf8.ValidString(p.s) {
		p.fail("not valid UTF-8")
	}
	return p
}

func (p *scanner) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("at byte %d: %s", p.i, fmt.Sprintf(format, args...))
	}
}

// peek returns the first byte of the next token, 0 at the end or after an error.
func (p *scanner) peek() byte {
	if p.err != nil {
		return 0
	}
	for ; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// take takes the next token if it is c.
func (p *scanner) take(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.i++
	return true
}

func (p *scanner) want(c byte) {
	if !p.take(c) {
		p.fail("%q is missing", c)
	}
}

func (p *scanner) end() {
	if p.peek() != 0 || p.err == nil && p.i < len(p.s) {
		p.fail("something follows")
	}
}

// object calls field for each field; it must read the field's value.
func (p *scanner) object(field func(name string)) {
	p.want('{')
	if p.take('}') {
		return
	}
	for p.err == nil {
		name := p.text()
		p.want(':')
		if p.err != nil {
			return
		}
		field(name)
		if !p.take(',') {
			p.want('}')
			return
		}
	}
}

// list calls item for each item; it must read it.
func (p *scanner) list(item func()) {
	p.want('[')
	if p.take(']') {
		return
	}
	for p.err == nil {
		item()
		if !p.take(',') {
			p.want(']')
			return
		}
	}
}

func (p *scanner) word(w string) {
	if !strings.HasPrefix(p.s[p.i:], w) {
		p.fail("%s is missing", w)
		return
	}
	p.i += len(w)
}

// maxDepth bounds the nesting of fields that are not known.
const maxDepth = 100

// skip reads over any value.
func (p *scanner) skip(depth int) {
	if depth > maxDepth {
		p.fail("nested more than %d deep", maxDepth)
	}
	switch p.peek() {
	case '{':
		p.object(func(string) { p.skip(depth + 1) })
	case '[':
		p.list(func() { p.skip(depth + 1) })
	case '"':
		p.text()
	case 't':
		p.word("true")
	case 'f':
		p.word("false")
	case 'n':
		p.word("null")
	default:
		p.number()
	}
}

func (p *scanner) number() string {
	p.peek()
	if p.err != nil {
		return ""
	}
	end := numberEnd(p.s, p.i)
	if end == p.i {
		p.fail("no value")
	}
	text := p.s[p.i:end]
	p.i = end
	return text
}

// numberEnd returns the end of the JSON number that begins at s[i], i where
// there is none.
func numberEnd(s string, i int) int {
	digits := func(k int) int {
		for k < len(s) && '0' <= s[k] && s[k] <= '9' {
			k++
		}
		return k
	}
	k := i
	if k < len(s) && s[k] == '-' {
		k++
	}
	end := digits(k)
	if end == k || s[k] == '0' && end > k+1 {
		return i
	}
	if k = end; k < len(s) && s[k] == '.' {
		if end = digits(k + 1); end == k+1 {
			return i
		}
		k = end
	}
	if k < len(s) && (s[k] == 'e' || s[k] == 'E') {
		k++
		if k < len(s) && (s[k] == '+' || s[k] == '-') {
			k++
		}
		if end = digits(k); end == k {
			return i
		}
	}
	return end
}

func (p *scanner) text() string {
	p.want('"')
	if p.err != nil {
		return ""
	}
	for k := p.i; k < len(p.s); k++ {
		switch c := p.s[k]; {
		case c == '"':
			text := p.s[p.i:k]
			p.i = k + 1
			return text
		case c == '\\':
			return p.escaped(k)
		case c < ' ':
			p.fail("a control character in a text")
			return ""
		}
	}
	p.fail("a text without an end")
	return ""
}

// escaped reads a text whose first escape is at s[k].
func (p *scanner) escaped(k int) string {
	b := append([]byte(nil), p.s[p.i:k]...)
	p.i = k
	for p.i < len(p.s) && p.err == nil {
		c := p.s[p.i]
		p.i++
		switch {
		case c == '"':
			return string(b)
		case c < ' ':
			p.fail("a control character in a text")
		case c == '\\':
			b = p.escape(b)
		default:
			b = append(b, c)
		}
	}
	p.fail("a text without an end")
	return ""
}

const (
	escapes = `"\/bfnrt`
	means   = "\"\\/\b\f\n\r\t"
)

// escape appends what the escape after a backslash means. Half of a surrogate
// pair is an error: replaced by U+FFFD, it would make another key.
func (p *scanner) escape(b []byte) []byte {
	if p.i < len(p.s) {
		if n := strings.IndexByte(escapes, p.s[p.i]); n >= 0 {
			p.i++
			return append(b, means[n])
		}
	}
	r := p.unit()
	if utf16.IsSurrogate(r) {
		if p.i < len(p.s) && p.s[p.i] == '\\' {
			p.i++
		}
		if r = utf16.DecodeRune(r, p.unit()); r == utf8.RuneError {
			p.fail("half of a surrogate pair")
		}
	}
	return utf8.AppendRune(b, r)
}

// unit reads the u and four hex digits of an escape.
func (p *scanner) unit() (r rune) {
	if p.i+5 > len(p.s) || p.s[p.i] != 'u' {
		p.fail("an escape that JSON does not have")
		return 0
	}
	for _, c := range []byte(p.s[p.i+1 : p.i+5]) {
		n := strings.IndexByte("0123456789abcdef", c|0x20)
		if n < 0 || c < '0' {
			p.fail("an escape that JSON does not have")
			return 0
		}
		r = r<<4 | rune(n)
	}
	p.i += 5
	return r
}
