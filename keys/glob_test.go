package keys

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// redisMatch is Redis's matching of one string (util.c, stringmatchlen) in its
// plainest form.
func redisMatch(p, s string) bool {
	if p == "" {
		return s == ""
	}
	switch {
	case p[0] == '*':
		for i := 0; i <= len(s); i++ {
			if redisMatch(p[1:], s[i:]) {
				return true
			}
		}
		return false
	case s == "":
		return false
	case p[0] == '?':
		return redisMatch(p[1:], s[1:])
	case p[0] == '[':
		in, rest := classMatch(p[1:], s[0])
		return in && redisMatch(rest, s[1:])
	case p[0] == '\\' && len(p) > 1:
		p = p[1:]
	}
	return p[0] == s[0] && redisMatch(p[1:], s[1:])
}

func classMatch(p string, c byte) (in bool, rest string) {
	not := strings.HasPrefix(p, "^")
	if not {
		p = p[1:]
	}
	for {
		switch {
		case p == "":
			return in != not, ""
		case p[0] == ']':
			return in != not, p[1:]
		case p[0] == '\\' && len(p) >= 2:
			in = in || p[1] == c
			p = p[2:]
		case len(p) >= 3 && p[1] == '-':
			in = in || min(p[0], p[2]) <= c && c <= max(p[0], p[2])
			p = p[3:]
		default:
			in = in || p[0] == c
			p = p[1:]
		}
	}
}

// words are all strings over the alphabet of at most n characters.
func words(alphabet string, n int) []string {
	all, last := []string{""}, []string{""}
	for range n {
		var next []string
		for _, w := range last {
			for _, c := range []byte(alphabet) {
				next = append(next, w+string(c))
			}
		}
		all, last = append(all, next...), next
	}
	return all
}

func witness(a, b string, among []string) (string, bool) {
	for _, w := range among {
		if redisMatch(a, w) && redisMatch(b, w) {
			return w, true
		}
	}
	return "", false
}

func TestGlobsOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"item:*", "sess:*", false},
		{"item:*", "item:1", true},
		{"item:*", "*", true},
		{"item:*", "i*", true},
		{"item:*", "*:x", true},
		{"item:*:x", "*:y", false},
		{"item", "item", true},
		{"item", "items", false},
		{"", "", true},
		{"", "*", true},
		{"", "?", false},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"[a-c]x", "[b-d]x", true},
		{"[a-c]x", "[d-f]x", false},
		{"[^a]", "a", false},
		{"[^a]", "[^b]", true},
		{"[^a-y]", "[b-z]", true},
		{"[]a]", "a]", false},  // [] matches nothing
		{"[^]a]", "xa]", true}, // [^] matches anything
		{"[a", "a", true},      // unclosed
		{`\*`, "*", true},
		{`\*a`, "ba", false},
		{`a\`, `a\`, true},
		{"user:*:a*", "user:*b", true},
		{"{user:*}:cart", "{user:*", true},
		{"{user:*}:cart", "{sess:*", false},
		{strings.Repeat("*a", 50), strings.Repeat("b*", 50) + "c", false},
		{strings.Repeat("*a", 50) + "*", strings.Repeat("*b", 50) + "*", true},
	} {
		if got := GlobsOverlap(c.a, c.b); got != c.want {
			t.Errorf("GlobsOverlap(%q, %q) = %v", c.a, c.b, got)
		}
		if got := GlobsOverlap(c.b, c.a); got != c.want {
			t.Errorf("GlobsOverlap(%q, %q) = %v", c.b, c.a, got)
		}
	}
	if huge := strings.Repeat("a", 5000); !GlobsOverlap(huge, huge+"b") {
		t.Error("beyond the work bound the answer must be true")
	}
}

// TestGlobsOverlapIsExact: on small globs the answer is neither too careful nor
// too careless; a common string needs no more characters than both have tokens.
func TestGlobsOverlapIsExact(t *testing.T) {
	tok := rapid.SampledFrom([]string{"a", "b", "*", "?", "[ab]", "[^a]", "[b-c]", `\a`, "[^]"})
	glob := rapid.Map(rapid.SliceOfN(tok, 0, 3), func(p []string) string { return strings.Join(p, "") })
	among := words("abc", 6)
	rapid.Check(t, func(t *rapid.T) {
		a, b := glob.Draw(t, "a"), glob.Draw(t, "b")
		w, found := witness(a, b, among)
		if got := GlobsOverlap(a, b); got != found {
			t.Fatalf("GlobsOverlap(%q, %q) = %v, common string %q (%v)", a, b, got, w, found)
		}
	})
}

func FuzzGlobsOverlap(f *testing.F) {
	f.Add("a*", "*b")
	f.Add("[a-b]?", `\*[^c]`)
	f.Add("[]", "[^")
	among := words(`ab*\-]`, 4)
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a) > 12 || len(b) > 12 {
			return
		}
		if w, found := witness(a, b, among); found && !GlobsOverlap(a, b) {
			t.Fatalf("both %q and %q match %q", a, b, w)
		}
		if !GlobsOverlap(a, a) && func() bool { _, found := witness(a, a, among); return found }() {
			t.Fatalf("%q does not overlap itself", a)
		}
	})
}
