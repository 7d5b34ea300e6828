package deleter

import "strings"

// glob is a Redis glob: * ? [a-z] [^a-z] and backslash. Its literal beginning is
// kept apart, because most globs are one followed by a star.
type glob struct {
	prefix string // unescaped
	rest   string // still a glob
}

func compile(pattern string) glob {
	var prefix []byte
	for pattern != "" && !strings.ContainsRune("*?[", rune(pattern[0])) {
		if pattern[0] == '\\' && len(pattern) > 1 {
			pattern = pattern[1:]
		}
		prefix = append(prefix, pattern[0])
		pattern = pattern[1:]
	}
	return glob{string(prefix), pattern}
}

func (g glob) match(key string) bool {
	if !strings.HasPrefix(key, g.prefix) {
		return false
	}
	return g.rest == "*" || matchRest(g.rest, key[len(g.prefix):])
}

type globs []glob

func compileAll(patterns []string) globs {
	gs := make(globs, len(patterns))
	for i, p := range patterns {
		gs[i] = compile(p)
	}
	return gs
}

// match says whether any of the globs matches the key.
func (gs globs) match(key string) bool {
	for _, g := range gs {
		if g.match(key) {
			return true
		}
	}
	return false
}

// matchRest goes back to the last star only: what an earlier star could take, the
// last one can.
func matchRest(p, s string) bool {
	starP, starS := "", ""
	star := false
	for s != "" {
		if p != "" && p[0] == '*' {
			star, starP, starS = true, p[1:], s
			p = p[1:]
			continue
		}
		if ok, next := matchByte(p, s[0]); ok {
			p, s = next, s[1:]
			continue
		}
		if !star {
			return false
		}
		starS = starS[1:]
		p, s = starP, starS
	}
	return strings.Trim(p, "*") == ""
}

// matchByte matches the first element of p, which is not a star, with one byte
// and returns what follows the element.
func matchByte(p string, b byte) (ok bool, rest string) {
	switch {
	case p == "":
		return false, ""
	case p[0] == '?':
		return true, p[1:]
	case p[0] == '[':
		return matchClass(p[1:], b)
	case p[0] == '\\' && len(p) > 1:
		p = p[1:]
	}
	return p[0] == b, p[1:]
}

// matchClass matches what follows a '['. As in Redis a range may be written from
// either end, and a class without its ']' ends with the glob.
func matchClass(p string, b byte) (ok bool, rest string) {
	not := strings.HasPrefix(p, "^")
	if not {
		p = p[1:]
	}
	for p != "" && p[0] != ']' {
		switch {
		case p[0] == '\\' && len(p) > 1:
			ok = ok || p[1] == b
			p = p[2:]
		case len(p) > 2 && p[1] == '-':
			ok = ok || min(p[0], p[2]) <= b && b <= max(p[0], p[2])
			p = p[3:]
		default:
			ok = ok || p[0] == b
			p = p[1:]
		}
	}
	return ok != not, strings.TrimPrefix(p, "]")
}
