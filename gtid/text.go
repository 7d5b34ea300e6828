package gtid

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxNumber is the largest transaction number: MySQL's own limit, and the
// arithmetic adds one to it.
const maxNumber = math.MaxInt64 - 1

// Parse reads a set in either server's notation. Blanks and line breaks between
// the parts are allowed, as the servers print them; "" is the empty set. It keeps
// no reference to text.
func Parse(text string) (Set, error) {
	var p parser
	for piece := range strings.SplitSeq(text, ",") {
		piece = strings.TrimSpace(piece)
		if piece == "" {
			continue
		}
		if err := p.read(piece); err != nil {
			return Set{}, fmt.Errorf("GTID set: %w", err)
		}
	}
	return Set{parts: p.parts}, nil
}

// parser collects parts that nobody else has yet, so that it may change them.
type parser struct{ parts []part }

// read adds one server's part, or one MariaDB identifier.
func (p *parser) read(piece string) error {
	uuid, rest, ok := strings.Cut(piece, ":")
	if !ok {
		domain, server, n, ok := split(piece)
		if !ok {
			return fmt.Errorf("%q is not a GTID", piece)
		}
		in := p.part(domain)
		if len(in.spans) == 0 || n >= in.last() {
			in.server = strings.Clone(server)
		}
		in.spans = addSpan(in.spans, span{1, n})
		return nil
	}
	if !validUUID(uuid) {
		return fmt.Errorf("%q does not begin with a server's UUID", piece)
	}
	key := uuid
	for item := range strings.SplitSeq(rest, ":") {
		item = strings.TrimSpace(item)
		switch {
		case item == "":
			return fmt.Errorf("%q has an empty interval", piece)
		case validTag(item):
			key = uuid + ":" + item
			continue
		}
		sp, ok := parseSpan(item)
		if !ok {
			return fmt.Errorf("%q is neither an interval of transaction numbers nor a tag", item)
		}
		in := p.part(key)
		if n := len(in.spans); n == 0 || sp.first > in.spans[n-1].last+1 {
			in.spans = append(in.spans, sp) // as the servers print them
		} else {
			in.spans = addSpan(in.spans, sp)
		}
	}
	return nil
}

// part returns the part with a key, a new one where there is none yet.
func (p *parser) part(key string) *part {
	if n := len(p.parts); n > 0 && compareFold(p.parts[n-1].key, key) == 0 {
		return &p.parts[n-1]
	}
	i, found := search(p.parts, key)
	if !found {
		p.parts = slices.Insert(p.parts, i, part{key: strings.Clone(strings.ToLower(key))})
	}
	return &p.parts[i]
}

func parseSpan(text string) (span, bool) {
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		last = first
	}
	a, ok1 := number(first)
	b, ok2 := number(last)
	return span{a, b}, ok1 && ok2 && a <= b
}

// number reads a transaction number: digits, from 1 to maxNumber.
func number(s string) (n int64, ok bool) {
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' || n > (maxNumber-int64(c-'0'))/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, n > 0
}

// String writes the set as its server would, without line breaks.
func (s Set) String() string {
	var b strings.Builder
	uuid := ""
	for i, p := range s.all() {
		if p.server != "" {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(p.key + "-" + p.server + "-" + strconv.FormatInt(p.last(), 10))
			continue
		}
		u, tag, _ := strings.Cut(p.key, ":")
		if u != uuid {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(u)
			uuid = u
		}
		if tag != "" {
			b.WriteString(":" + tag)
		}
		var digits [20]byte
		for _, sp := range p.spans {
			b.WriteByte(':')
			b.Write(strconv.AppendInt(digits[:0], sp.first, 10))
			if sp.last > sp.first {
				b.WriteByte('-')
				b.Write(strconv.AppendInt(digits[:0], sp.last, 10))
			}
		}
	}
	return b.String()
}

// split takes an identifier apart: "uuid:7" and "uuid:tag:7" into key and
// number, "0-1-100" into domain, server and number.
func split(gtid string) (key, server string, n int64, ok bool) {
	if i := strings.LastIndexByte(gtid, ':'); i >= 0 {
		n, ok := number(gtid[i+1:])
		uuid, tag, tagged := strings.Cut(gtid[:i], ":")
		return gtid[:i], "", n, ok && validUUID(uuid) && (!tagged || validTag(tag))
	}
	domain, rest, _ := strings.Cut(gtid, "-")
	server, seq, _ := strings.Cut(rest, "-")
	n, ok = number(seq)
	return domain, server, n, ok && validID(domain) && validID(server)
}

// validID: a MariaDB domain or server id, a number of 32 bits as the server
// prints it.
func validID(s string) bool {
	n, err := strconv.ParseUint(s, 10, 32)
	return err == nil && (s[0] != '0' || n == 0 && len(s) == 1)
}

func validUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case !hexDigit(c):
			return false
		}
	}
	return true
}

func hexDigit(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// validTag: a letter or an underscore, then up to 31 letters, digits and underscores.
func validTag(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 32
}
