package gtid

import (
	"cmp"
	"slices"
)

// span is a run of transaction numbers. A list of spans is sorted, and there is
// at least one number between two of them. No function here changes a list.
type span struct{ first, last int64 }

// addSpan returns spans with n in it.
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

// unite returns what is in a or in b. It returns one of them where that holds
// the other.
func unite(a, b []span) []span {
	switch {
	case hasSpans(a, b):
		return a
	case hasSpans(b, a):
		return b
	case len(b) == 1:
		return addSpan(a, b[0])
	}
	out := make([]span, 0, len(a)+len(b))
	for i, j := 0, 0; i < len(a) || j < len(b); {
		var next span
		if j == len(b) || i < len(a) && a[i].first <= b[j].first {
			next = a[i]
			i++
		} else {
			next = b[j]
			j++
		}
		if n := len(out); n > 0 && next.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, next.last)
			continue
		}
		out = append(out, next)
	}
	return out
}

// common returns what is in a and in b.
func common(a, b []span) (out []span) {
	for i, j := 0, 0; i < len(a) && j < len(b); {
		if first, last := max(a[i].first, b[j].first), min(a[i].last, b[j].last); first <= last {
			out = append(out, span{first, last})
		}
		if a[i].last < b[j].last {
			i++
		} else {
			j++
		}
	}
	return out
}

// without returns what is in a and not in b.
func without(a, b []span) (out []span) {
	j := 0
	for _, rest := range a {
		for j < len(b) && b[j].last < rest.first {
			j++
		}
		for k := j; k < len(b) && b[k].first <= rest.last; k++ {
			if b[k].first > rest.first {
				out = append(out, span{rest.first, b[k].first - 1})
			}
			rest.first = b[k].last + 1
		}
		if rest.first <= rest.last {
			out = append(out, rest)
		}
	}
	return out
}

func hasSpan(spans []span, n span) bool {
	i, _ := slices.BinarySearchFunc(spans, n, func(s, n span) int { return cmp.Compare(s.last, n.first) })
	return i < len(spans) && spans[i].first <= n.first && n.last <= spans[i].last
}

// hasSpans says whether all of b is in a.
func hasSpans(a, b []span) bool {
	if len(b) < 8 { // a few look-ups, else side by side
		return !slices.ContainsFunc(b, func(n span) bool { return !hasSpan(a, n) })
	}
	i := 0
	for _, n := range b {
		for i < len(a) && a[i].last < n.first {
			i++
		}
		if i == len(a) || a[i].first > n.first || a[i].last < n.last {
			return false
		}
	}
	return true
}
