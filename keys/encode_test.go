package keys

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// reference is the encoding of docs/schema.md written again, slowly and
// byte by byte, as another language would do it.
func reference(s string, bare bool) string {
	const kept = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~@+"
	if s == "" && bare {
		return "%-"
	}
	var out strings.Builder
	for i := 0; i < len(s); {
		n := 1
		for n <= 4 && i+n <= len(s) && !utf8.ValidString(s[i:i+n]) {
			n++
		}
		if n > 4 || i+n > len(s) {
			n = 0 // ill-formed
		}
		r, _ := utf8.DecodeRuneInString(s[i:])
		switch {
		case n == 1 && strings.IndexByte(kept, s[i]) >= 0,
			n > 1 && r >= 0xA0 && !(0xFDD0 <= r && r <= 0xFDEF) && r%0x10000 < 0xFFFE:
			out.WriteString(s[i : i+n])
			i += n
		default:
			fmt.Fprintf(&out, "%%%02X", s[i])
			i++
		}
	}
	if out.Len() > 200 {
		return fmt.Sprintf("%%~%x", sha256.Sum256([]byte(s)))
	}
	return out.String()
}

// decode undoes the encoding, as far as it can be undone.
func decode(enc string) (s string, hashed bool) {
	if strings.HasPrefix(enc, hashMark) {
		return "", true
	}
	if enc == emptyMark {
		return "", false
	}
	var out []byte
	for i := 0; i < len(enc); i++ {
		if enc[i] != '%' {
			out = append(out, enc[i])
			continue
		}
		var b byte
		if _, err := fmt.Sscanf(enc[i+1:i+3], "%02X", &b); err != nil {
			panic(err)
		}
		out = append(out, b)
		i += 2
	}
	return string(out), false
}

// errorer is what *testing.T and *rapid.T have in common here.
type errorer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func checkEncoding(t errorer, s string, bare bool) {
	t.Helper()
	enc := string(appendValue([]byte("x"), s, bare))[1:]
	if want := reference(s, bare); enc != want {
		t.Fatalf("encoded %q as %q, the reference as %q", s, enc, want)
	}
	if len(enc) > maxEncoded || !utf8.ValidString(enc) {
		t.Fatalf("%q: %d bytes, valid UTF-8: %v", enc, len(enc), utf8.ValidString(enc))
	}
	if i := firstSeparator(enc); i >= 0 {
		t.Fatalf("%q became %q, with a separating byte %q", s, enc, enc[i])
	}
	if bare && enc == "" {
		t.Fatalf("a bare value is empty")
	}
	if back, hashed := decode(enc); !hashed && back != s {
		t.Fatalf("%q became %q, which decodes as %q", s, enc, back)
	}
}

func TestEncodeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkEncoding(t, hostileText().Draw(t, "text"), rapid.Bool().Draw(t, "bare"))
	})
}

// TestEncodeBoundaries tries each byte, and the code points where rules change.
func TestEncodeBoundaries(t *testing.T) {
	for b := range 256 {
		checkEncoding(t, string([]byte{byte(b)}), false)
	}
	for _, r := range []rune{
		0x7F, 0x80, 0x9F, 0xA0, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFDCF, 0xFDD0, 0xFDEF, 0xFDF0,
		0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x1FFFD, 0x1FFFE, 0x1FFFF, 0x20000, 0x10FFFD, 0x10FFFE, 0x10FFFF,
	} {
		checkEncoding(t, string(r), false)
		checkEncoding(t, strings.Repeat(string(r), 70), false)
	}
	for n := 195; n < 206; n++ {
		checkEncoding(t, strings.Repeat("a", n), false)
		checkEncoding(t, strings.Repeat("a", n-2)+":", false)
		checkEncoding(t, strings.Repeat("a", n-1)+"é", false)
	}
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", "a", "a:b", "é", "\xff", "\xed\xa0\x80", "\xf0\x9f\x98", strings.Repeat("é", 101)} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, bare bool) { checkEncoding(t, s, bare) })
}

// hostileText makes texts out of what templates, escapes and marks are made of.
func hostileText() *rapid.Generator[string] {
	piece := rapid.SampledFrom([]string{
		"", "a", "b", "A", "0", "3A", ":", "::", "/", "!", "!null", "null", "%", "%3A", "%~", "%-", "{", "}", "{}", "}{",
		" ", "\n", "\x00", "*", "?", "[", "]", "\\", "-", "é", "é", "😀", "\xff", "\xc3", "\xe6\x9d", "\ufdd0", "\u0085",
	})
	return rapid.OneOf(
		rapid.Map(rapid.SliceOfN(piece, 0, 4), func(p []string) string { return strings.Join(p, "") }),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 12), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.IntRange(190, 210), func(n int) string { return strings.Repeat("a", n) }),
		rapid.String(),
	)
}
