package gtid

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Set is a set of transactions. The zero Set is empty. A Set may be copied and
// read by several goroutines; Add and Union change only the Set that they are
// called on, never a copy.
type Set struct {
	parts []part // sorted by key
}

// part is what the set holds of one server and tag, or of one MariaDB domain.
type part struct {
	key    string // "uuid", "uuid:tag", in lower case; or the domain
	server string // MariaDB: the server that wrote the newest; "" for MySQL
	spans  []span // sorted, apart from one another
}

type span struct{ first, last int64 }

// Parse reads a set in either server's notation. Blanks and line breaks between
// the parts are allowed, as the servers print them; "" is the empty set.
func Parse(text string) (Set, error) {
	var s Set
	for piece := range strings.SplitSeq(text, ",") {
		piece = strings.TrimSpace(piece)
		if piece == "" {
			continue
		}
		if err := s.parse(piece); err != nil {
			return Set{}, fmt.Errorf("GTID set: %w", err)
		}
	}
	return s, nil
}

// parse adds one server's part, or one MariaDB identifier.
func (s *Set) parse(piece string) error {
	uuid, rest, ok := strings.Cut(piece, ":")
	if !ok {
		return s.Add(piece)
	}
	if !validUUID(uuid) {
		return fmt.Errorf("%q does not begin with a server's UUID", piece)
	}
	key := strings.ToLower(uuid)
	in := key
	for item := range strings.SplitSeq(rest, ":") {
		item = strings.TrimSpace(item)
		if item == "" {
			return fmt.Errorf("%q has an empty interval", piece)
		}
		if item[0] < '0' || item[0] > '9' {
			if !validTag(item) {
				return fmt.Errorf("%q is neither an interval nor a tag", item)
			}
			in = key + ":" + strings.ToLower(item)
			continue
		}
		sp, err := parseSpan(item)
		if err != nil {
			return err
		}
		s.add(in, "", sp)
	}
	return nil
}

func parseSpan(text string) (span, error) {
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		last = first
	}
	a, err1 := strconv.ParseInt(first, 10, 64)
	b, err2 := strconv.ParseInt(last, 10, 64)
	if err1 != nil || err2 != nil || a < 1 || b < a {
		return span{}, fmt.Errorf("%q is not an interval of transaction numbers", text)
	}
	return span{a, b}, nil
}

// Add adds one transaction. On MariaDB it adds everything before it in its
// domain too.
func (s *Set) Add(gtid string) error {
	key, server, n, ok := split(gtid)
	if !ok {
		return fmt.Errorf("%q is not a GTID", gtid)
	}
	if server != "" {
		s.add(key, server, span{1, n})
		return nil
	}
	s.add(strings.ToLower(key), "", span{n, n})
	return nil
}

// Union adds all of t.
func (s *Set) Union(t Set) {
	for _, p := range t.parts {
		for _, sp := range p.spans {
			s.add(p.key, p.server, sp)
		}
	}
}

func (s *Set) add(key, server string, n span) {
	i, found := slices.BinarySearchFunc(s.parts, key, func(p part, key string) int { return cmp.Compare(p.key, key) })
	parts := slices.Clone(s.parts)
	if !found {
		parts = slices.Insert(parts, i, part{key: key, server: server})
	}
	p := &parts[i]
	if len(p.spans) == 0 || n.last >= p.spans[len(p.spans)-1].last {
		p.server = server
	}
	p.spans = addSpan(p.spans, n)
	s.parts = parts
}

// addSpan returns spans with n in it, without changing spans.
func addSpan(spans []span, n span) []span {
	// The spans that n touches, or that would leave no number between, are
	// [from, to): they become one.
	from, _ := slices.BinarySearchFunc(spans, n, func(s, n span) int { return cmp.Compare(s.last, n.first-1) })
	to := from
	for to < len(spans) && spans[to].first <= n.last+1 {
		n.first, n.last = min(n.first, spans[to].first), max(n.last, spans[to].last)
		to++
	}
	out := make([]span, 0, len(spans)+1)
	out = append(out, spans[:from]...)
	out = append(out, n)
	return append(out, spans[to:]...)
}

// Has says whether one transaction is in the set. Text that is no GTID is not.
// It does not allocate.
func (s Set) Has(gtid string) bool {
	key, _, n, ok := split(gtid)
	if !ok {
		return false
	}
	for i := range s.parts {
		if strings.EqualFold(s.parts[i].key, key) {
			return hasSpan(s.parts[i].spans, span{n, n})
		}
	}
	return false
}

// HasAll says whether every transaction of t is in the set.
func (s Set) HasAll(t Set) bool {
	for _, p := range t.parts {
		spans := s.spansOf(p.key)
		for _, sp := range p.spans {
			if !hasSpan(spans, sp) {
				return false
			}
		}
	}
	return true
}

// Missing returns how many transactions of t are not in the set.
func (s Set) Missing(t Set) int64 {
	var n int64
	for _, p := range t.parts {
		spans := s.spansOf(p.key)
		for _, sp := range p.spans {
			n += sp.last - sp.first + 1
			for _, have := range spans {
				if over := min(have.last, sp.last) - max(have.first, sp.first) + 1; over > 0 {
					n -= over
				}
			}
		}
	}
	return n
}

// Empty says whether nothing is in the set.
func (s Set) Empty() bool { return len(s.parts) == 0 }

// Size is an estimate of the memory that the set holds, in bytes.
func (s Set) Size() int {
	n := 24
	for i := range s.parts {
		n += 64 + len(s.parts[i].key) + 16*len(s.parts[i].spans)
	}
	return n
}

// String writes the set as its server would, without line breaks.
func (s Set) String() string {
	var b strings.Builder
	uuid := ""
	for i, p := range s.parts {
		if p.server != "" {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "%s-%s-%d", p.key, p.server, p.spans[len(p.spans)-1].last)
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
		for _, sp := range p.spans {
			b.WriteByte(':')
			b.WriteString(strconv.FormatInt(sp.first, 10))
			if sp.last > sp.first {
				b.WriteByte('-')
				b.WriteString(strconv.FormatInt(sp.last, 10))
			}
		}
	}
	return b.String()
}

func (s Set) spansOf(key string) []span {
	i, found := slices.BinarySearchFunc(s.parts, key, func(p part, key string) int { return cmp.Compare(p.key, key) })
	if !found {
		return nil
	}
	return s.parts[i].spans
}

func hasSpan(spans []span, n span) bool {
	i, _ := slices.BinarySearchFunc(spans, n, func(s, n span) int { return cmp.Compare(s.last, n.first) })
	return i < len(spans) && spans[i].first <= n.first && n.last <= spans[i].last
}

// split takes an identifier apart: "uuid:7" and "uuid:tag:7" into key and
// number, "0-1-100" into domain, server and number.
func split(gtid string) (key, server string, n int64, ok bool) {
	if i := strings.LastIndexByte(gtid, ':'); i >= 0 {
		n, err := strconv.ParseInt(gtid[i+1:], 10, 64)
		uuid, tag, tagged := strings.Cut(gtid[:i], ":")
		return gtid[:i], "", n, err == nil && n > 0 && validUUID(uuid) && (!tagged || validTag(tag))
	}
	domain, rest, _ := strings.Cut(gtid, "-")
	server, seq, _ := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(seq, 10, 64)
	return domain, server, n, err == nil && n > 0 && digits(domain) && digits(server)
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) <= 10
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
