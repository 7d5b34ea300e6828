package keys

import (
	"crypto/sha256"
	"encoding/hex"
	"unicode/utf8"
)

// maxEncoded is the longest encoded value in bytes; a longer one becomes
// hashMark and the SHA-256 of the text.
const maxEncoded = 200

// hashMark begins a hashed value, emptyMark stands for an empty value where
// the key's hash tag would otherwise be empty. Neither can come out of
// escaping, which writes two hex digits after each percent sign.
const (
	hashMark  = "%~"
	emptyMark = "%-"
)

const upperHex = "0123456789ABCDEF"

// asciiKept tells which ASCII bytes stand for themselves in a value.
var asciiKept = func() (kept [utf8.RuneSelf]bool) {
	for c := range kept {
		switch b := byte(c); {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
			kept[c] = true
		case b == '-', b == '.', b == '_', b == '~', b == '@', b == '+':
			kept[c] = true
		}
	}
	return kept
}()

// separates reports whether b never occurs in an encoded value, so that it can
// mark where one ends. The percent sign does not: encoded values contain it.
func separates(b byte) bool {
	return b < utf8.RuneSelf && !asciiKept[b] && b != '%'
}

// firstSeparator returns the index of the first separating byte, -1 if none.
func firstSeparator(s string) int {
	for i := range len(s) {
		if separates(s[i]) {
			return i
		}
	}
	return -1
}

// runeKept reports whether a code point beyond ASCII stands for itself: all
// but the C1 controls (below U+00A0) and the noncharacters. Surrogates never
// get here, well-formed UTF-8 has none.
func runeKept(r rune) bool {
	return r >= 0xA0 && (r < 0xFDD0 || r > 0xFDEF) && r&0xFFFE != 0xFFFE
}

// appendValue appends the encoded form of s to dst. Different texts have
// different forms (up to SHA-256), and no form holds a separating byte.
func appendValue(dst []byte, s string, bare bool) []byte {
	if s == "" && bare {
		return append(dst, emptyMark...)
	}
	start := len(dst)
	for i := 0; i < len(s); {
		if len(dst)-start > maxEncoded {
			break
		}
		b := s[i]
		if b < utf8.RuneSelf {
			if asciiKept[b] {
				dst = append(dst, b)
			} else {
				dst = append(dst, '%', upperHex[b>>4], upperHex[b&15])
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		// An ill-formed byte decodes as RuneError of length 1.
		if n > 1 && runeKept(r) {
			dst = append(dst, s[i:i+n]...)
			i += n
			continue
		}
		for range n {
			dst = append(dst, '%', upperHex[s[i]>>4], upperHex[s[i]&15])
			i++
		}
	}
	if len(dst)-start <= maxEncoded {
		return dst
	}
	sum := sha256.Sum256([]byte(s))
	dst = append(dst[:start], hashMark...)
	return hex.AppendEncode(dst, sum[:])
}
