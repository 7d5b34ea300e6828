package keys

import (
	"slices"
	"unicode/utf8"
)

// GlobsOverlap reports whether some string may match both Redis globs: * ?
// [a-z] [^a-z] and \x, as SCAN MATCH and ACLs read them. It is conservative:
// true when in doubt.
func GlobsOverlap(a, b string) bool {
	return overlap(redisGlob(a), redisGlob(b))
}

// token is one element of a glob: one character out of ranges, or with star
// any number of them.
type token struct {
	star bool
	set  []span
}

type span struct{ lo, hi rune }

var anything = []span{{0, utf8.MaxRune}}

func one(c rune) token { return token{set: []span{{c, c}}} }

// maxOverlapWork bounds the table of overlap; beyond it the answer is "maybe".
const maxOverlapWork = 1 << 24

// overlap reports whether the languages of two globs have a common string.
// State (i, j) means: a[i:] and b[j:] are still to be matched by one string.
func overlap(a, b []token) bool {
	w := len(b) + 1
	if (len(a)+1)*w > maxOverlapWork {
		return true
	}
	can := make([]bool, (len(a)+1)*w)
	for i := len(a); i >= 0; i-- {
		for j := len(b); j >= 0; j-- {
			can[i*w+j] = step(a[i:], b[j:], can[i*w+j:], w)
		}
	}
	return can[0]
}

// step decides one state from those behind it: next[w] is (i+1, j), next[1] is
// (i, j+1), next[w+1] is (i+1, j+1).
func step(a, b []token, next []bool, w int) bool {
	switch {
	case len(a) == 0 && len(b) == 0:
		return true
	case len(a) > 0 && a[0].star && next[w], len(b) > 0 && b[0].star && next[1]:
		return true // that star matches nothing more
	case len(a) == 0 || len(b) == 0 || !common(a[0].set, b[0].set):
		return false
	case a[0].star && b[0].star:
		return false // both taking one character leads back to this state
	case a[0].star:
		return next[1]
	case b[0].star:
		return next[w]
	}
	return next[w+1]
}

func common(a, b []span) bool {
	for _, x := range a {
		for _, y := range b {
			if x.lo <= y.hi && y.lo <= x.hi {
				return true
			}
		}
	}
	return false
}

// redisGlob reads a glob byte by byte, as Redis does (util.c, stringmatchlen).
func redisGlob(p string) []token {
	var toks []token
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == '*':
			if n := len(toks); n == 0 || !toks[n-1].star {
				toks = append(toks, token{star: true, set: anything})
			}
		case c == '?':
			toks = append(toks, token{set: anything})
		case c == '[':
			set, n := globClass(p[i:])
			toks = append(toks, token{set: set})
			i += n - 1
		case c == '\\' && i+1 < len(p):
			i++
			toks = append(toks, one(rune(p[i])))
		default:
			toks = append(toks, one(rune(c)))
		}
	}
	return toks
}

// globClass reads the class at the start of p and returns its length. An
// unclosed class ends with the pattern; [] matches nothing, [^] anything.
func globClass(p string) (set []span, n int) {
	i := 1
	not := i < len(p) && p[i] == '^'
	if not {
		i++
	}
	for ; i < len(p) && p[i] != ']'; i++ {
		switch {
		case p[i] == '\\' && i+1 < len(p):
			i++
			set = append(set, span{rune(p[i]), rune(p[i])})
		case i+2 < len(p) && p[i+1] == '-':
			lo, hi := rune(p[i]), rune(p[i+2])
			set = append(set, span{min(lo, hi), max(lo, hi)})
			i += 2
		default:
			set = append(set, span{rune(p[i]), rune(p[i])})
		}
	}
	if not {
		set = complement(set)
	}
	return set, min(i+1, len(p))
}

func complement(set []span) []span {
	slices.SortFunc(set, func(a, b span) int { return int(a.lo - b.lo) })
	var out []span
	next := rune(0)
	for _, s := range set {
		if s.lo > next {
			out = append(out, span{next, s.lo - 1})
		}
		next = max(next, s.hi+1)
	}
	return append(out, span{next, utf8.MaxRune})
}

// language returns the glob of all keys that the template can make for values
// that are not NULL.
func (t *template) language() []token {
	var kept []span
	for c := rune(0); c < 256; c++ {
		if !separates(byte(c)) {
			kept = append(kept, span{c, c})
		}
	}
	toks := literalTokens(nil, t.prefix)
	for _, h := range t.holes {
		toks = append(toks, token{star: true, set: kept})
		toks = literalTokens(toks, h.after)
	}
	return toks
}

func literalTokens(toks []token, s string) []token {
	for i := range len(s) {
		toks = append(toks, one(rune(s[i])))
	}
	return toks
}
