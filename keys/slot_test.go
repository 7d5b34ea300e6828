package keys

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestValuesDoNotMoveTheHashTag: the bytes that choose a key's slot in a Redis
// Cluster begin and end where the template says, whatever the values.
func TestValuesDoNotMoveTheHashTag(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rule := genRule().Draw(t, "rule")
		s := schemaOf(t, rule)
		vals := genTuple(rule).Draw(t, "values")
		key := mustKey(t, s, "r0", vals)
		want := expectedTag(rule, vals, s.rules[0].template)
		if want == "" {
			want = key
		}
		if got := slot(key); got != crc16(want)%16384 {
			t.Fatalf("%s: key %q has slot %d, its tag %q has %d", rule.template(), key, got, want, crc16(want)%16384)
		}
	})
}

// expectedTag builds the hash tag from the template alone: braces count only
// in literals. It is "" if the template has none.
func expectedTag(r ruleText, vals []Value, tmpl *template) string {
	var tag strings.Builder
	open := false
	for i, l := range r.literals {
		if i > 0 && open {
			if v := vals[i-1]; v.Kind == Null {
				tag.WriteString(r.null)
			} else {
				tag.WriteString(reference(v.Text, tmpl.holes[i-1].bare))
			}
		}
		for _, c := range []byte(l) {
			switch {
			case !open && c == '{':
				open = true
			case open && c == '}':
				return tag.String()
			case open:
				tag.WriteByte(c)
			}
		}
	}
	return "" // not closed: no tag
}

// slot is Redis Cluster's key slot, written from its specification.
func slot(key string) uint16 {
	if i := strings.IndexByte(key, '{'); i >= 0 {
		if n := strings.IndexByte(key[i+1:], '}'); n > 0 {
			key = key[i+1 : i+1+n]
		}
	}
	return crc16(key) % 16384
}

func crc16(s string) uint16 {
	var crc uint16
	for i := range len(s) {
		crc ^= uint16(s[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

func TestSlotFunction(t *testing.T) {
	// "123456789" → 0x31C3 is in the Redis Cluster specification; the others
	// are what CLUSTER KEYSLOT answers.
	if got := crc16("123456789"); got != 0x31C3 {
		t.Errorf("crc16 = %#x", got)
	}
	if got := slot("foo"); got != 12182 {
		t.Errorf("slot(foo) = %d", got)
	}
	if slot("{user1000}.following") != slot("{user1000}.followers") {
		t.Error("one tag, two slots")
	}
}
