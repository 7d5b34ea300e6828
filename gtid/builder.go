package gtid

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Builder collects single transactions into a Set. It is for sets that are made
// of many runs, one behind the other, where Set.Add would copy all of them again
// and again. The zero Builder is ready; it belongs to one goroutine.
type Builder struct {
	parts []part
	at    int // the part of the last one
	loose []bool
}

// Add adds one transaction. On MariaDB it adds everything before it in its
// domain too.
func (b *Builder) Add(gtid string) error {
	key, server, n, ok := split(gtid)
	if !ok {
		return fmt.Errorf("%q is not a GTID", gtid)
	}
	p := b.part(key)
	sp := span{n, n}
	if server != "" {
		sp.first = 1
	}
	if len(p.spans) == 0 {
		p.server, p.spans = strings.Clone(server), append(p.spans, sp)
		return nil
	}
	last := &p.spans[len(p.spans)-1]
	switch {
	case sp.first < last.first:
		b.loose[b.at] = true
		p.spans = append(p.spans, sp)
	case sp.first > last.last+1:
		p.spans = append(p.spans, sp)
	case sp.last > last.last:
		last.last = sp.last
		if server != p.server {
			p.server = strings.Clone(server)
		}
	}
	return nil
}

func (b *Builder) part(key string) *part {
	if b.at < len(b.parts) && compareFold(b.parts[b.at].key, key) == 0 {
		return &b.parts[b.at]
	}
	b.at = slices.IndexFunc(b.parts, func(p part) bool { return compareFold(p.key, key) == 0 })
	if b.at < 0 {
		b.at = len(b.parts)
		b.parts, b.loose = append(b.parts, part{key: strings.Clone(strings.ToLower(key))}), append(b.loose, false)
	}
	return &b.parts[b.at]
}

// Set returns what was added, and empties the Builder.
func (b *Builder) Set() Set {
	for i := range b.parts {
		if b.loose[i] {
			b.parts[i].spans = tidy(b.parts[i].spans)
		}
	}
	s := Set{parts: b.parts}
	slices.SortFunc(s.parts, func(p, q part) int { return cmp.Compare(p.key, q.key) })
	*b = Builder{}
	return s
}

// tidy sorts spans and joins those that touch.
func tidy(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	out := spans[:1]
	for _, s := range spans[1:] {
		if last := &out[len(out)-1]; s.first <= last.last+1 {
			last.last = max(last.last, s.last)
		} else {
			out = append(out, s)
		}
	}
	return out
}
