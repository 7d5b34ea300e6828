package gtid

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Set is a set of transactions. The zero Set is empty. A Set may be copied, and
// read by several goroutines; Add, Union and UnmarshalBinary change only the Set
// that they are called on, never a copy. Adding transactions one behind the other
// is cheap, whatever the number of holes in the set: Add allocates nothing then.
type Set struct {
	parts []part // sorted by key; shared with copies, so never changed once made
	tail  tail   // what Add added last, beside parts
}

// part is what the set holds of one server and tag, or of one MariaDB domain.
type part struct {
	key    string // "uuid", "uuid:tag", in lower case; or the domain
	server string // MariaDB: the server that wrote the newest; "" for MySQL
	spans  []span // sorted, apart from one another
}

// tail is a run of transactions of one part. It is kept by value, so that it can
// grow without a change to a copy. last is 0 where there is none.
type tail struct {
	key, server string
	span
}

// Add adds one transaction. On MariaDB it adds everything before it in its
// domain too.
func (s *Set) Add(gtid string) error {
	key, server, n, ok := split(gtid)
	if !ok {
		return fmt.Errorf("%q is not a GTID", gtid)
	}
	t := &s.tail
	mine := t.last != 0 && compareFold(t.key, key) == 0
	switch {
	case mine && t.first <= n && n <= t.last:
		return nil
	case mine && (server != "" || n == t.last+1):
		t.last = n
		if server != t.server {
			t.server = strings.Clone(server)
		}
		return nil
	case s.has(key, n):
		return nil
	}
	s.parts = s.all()
	if i, found := search(s.parts, key); found {
		key = s.parts[i].key
	} else {
		key = strings.Clone(strings.ToLower(key))
	}
	s.tail = tail{key, strings.Clone(server), span{n, n}}
	if server != "" {
		s.tail.first = 1
	}
	return nil
}

// all returns all parts, the tail among them.
func (s Set) all() []part {
	if s.tail.last == 0 {
		return s.parts
	}
	i, found := search(s.parts, s.tail.key)
	parts := slices.Clone(s.parts)
	if !found {
		return slices.Insert(parts, i, part{s.tail.key, s.tail.server, []span{s.tail.span}})
	}
	p := &parts[i]
	if s.tail.last >= p.last() {
		p.server = s.tail.server
	}
	p.spans = addSpan(p.spans, s.tail.span)
	return parts
}

// Union adds all of t.
func (s *Set) Union(t Set) {
	var out []part
	for a, b := range zip(s.all(), t.all()) {
		switch {
		case a == nil:
			out = append(out, *b)
		case b == nil:
			out = append(out, *a)
		default:
			p := part{a.key, a.server, unite(a.spans, b.spans)}
			if b.last() >= a.last() {
				p.server = b.server
			}
			out = append(out, p)
		}
	}
	*s = Set{parts: out}
}

// Intersect returns the transactions that are in both sets. On MariaDB the
// result names the server of s.
func (s Set) Intersect(t Set) Set {
	var out Set
	for a, b := range zip(s.all(), t.all()) {
		if a == nil || b == nil {
			continue
		}
		if spans := common(a.spans, b.spans); len(spans) > 0 {
			out.parts = append(out.parts, part{a.key, a.server, spans})
		}
	}
	return out
}

// Minus returns the transactions of s that are not in t. On MariaDB the result
// can have a beginning that its text, which names the end only, does not show.
func (s Set) Minus(t Set) Set {
	var out Set
	for a, b := range zip(s.all(), t.all()) {
		switch {
		case a == nil:
		case b == nil:
			out.parts = append(out.parts, *a)
		default:
			if spans := without(a.spans, b.spans); len(spans) > 0 {
				out.parts = append(out.parts, part{a.key, a.server, spans})
			}
		}
	}
	return out
}

// Has says whether one transaction is in the set. Text that is no GTID is not.
// It does not allocate.
func (s Set) Has(gtid string) bool {
	key, _, n, ok := split(gtid)
	return ok && s.has(key, n)
}

func (s Set) has(key string, n int64) bool {
	if s.tail.first <= n && n <= s.tail.last && compareFold(s.tail.key, key) == 0 {
		return true
	}
	i, found := search(s.parts, key)
	return found && hasSpan(s.parts[i].spans, span{n, n})
}

// HasAll says whether every transaction of t is in the set.
func (s Set) HasAll(t Set) bool {
	parts := s.all()
	for _, p := range t.all() {
		i, found := search(parts, p.key)
		if !found || !hasSpans(parts[i].spans, p.spans) {
			return false
		}
	}
	return true
}

// Missing returns how many transactions of t are not in the set.
func (s Set) Missing(t Set) int64 {
	var n int64
	for _, p := range t.Minus(s).parts {
		for _, sp := range p.spans {
			n += min(sp.last-sp.first+1, maxNumber-n) // at the limit rather than beyond it
		}
	}
	return n
}

// Empty says whether nothing is in the set.
func (s Set) Empty() bool { return len(s.parts) == 0 && s.tail.last == 0 }

// Hull returns the set with its holes filled: of each server, or domain, all
// transactions from the first to the last. It is short to write, whatever the
// number of holes.
func (s Set) Hull() Set {
	parts := slices.Clone(s.all())
	for i := range parts {
		p := &parts[i]
		p.spans = []span{{p.spans[0].first, p.last()}}
	}
	return Set{parts: parts}
}

// Size is an estimate of the memory that the set holds, in bytes.
func (s Set) Size() int {
	n := 80 + len(s.tail.key)
	for i := range s.parts {
		n += 64 + len(s.parts[i].key) + 16*len(s.parts[i].spans)
	}
	return n
}

func (p *part) last() int64 { return p.spans[len(p.spans)-1].last }

// search finds a part by its key, which may be in capitals.
func search(parts []part, key string) (int, bool) {
	return slices.BinarySearchFunc(parts, key, func(p part, key string) int { return compareFold(p.key, key) })
}

// compareFold compares a key, in lower case, with one that may be in capitals.
func compareFold(lower, key string) int {
	for i := range min(len(lower), len(key)) {
		c := key[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if lower[i] != c {
			return cmp.Compare(lower[i], c)
		}
	}
	return cmp.Compare(len(lower), len(key))
}

// zip goes through two lists of parts by key; the one that lacks a key is nil.
func zip(s, t []part) func(yield func(a, b *part) bool) {
	return func(yield func(a, b *part) bool) {
		for i, j := 0, 0; i < len(s) || j < len(t); {
			var a, b *part
			if j == len(t) || i < len(s) && s[i].key <= t[j].key {
				a = &s[i]
			}
			if i == len(s) || j < len(t) && t[j].key <= s[i].key {
				b = &t[j]
			}
			if a != nil {
				i++
			}
			if b != nil {
				j++
			}
			if !yield(a, b) {
				return
			}
		}
	}
}
