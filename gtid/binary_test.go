package gtid

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestBinary(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "01",
		a + ":1-5:7":             "01" + "01" + "3e11fa4771ca11e19e33c80aa9429562" + "02" + "0104" + "0200",
		a + ":1-1000000":         "01" + "01" + "3e11fa4771ca11e19e33c80aa9429562" + "01" + "01" + "bf843d",
		a + ":red:2":             "01" + "04" + "3e11fa4771ca11e19e33c80aa9429562" + "726564" + "01" + "0200",
		"0-1-100,4294967295-2-3": "01" + "00000164" + "00ffffffff0f0203",
	} {
		got, err := set(t, text).MarshalBinary()
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%q is %x, %v; want %s", text, got, err, want)
		}
		var back Set
		if err := back.UnmarshalBinary(got); err != nil || back.String() != text {
			t.Errorf("%q comes back as %q, %v", text, back, err)
		}
	}
}

func TestBinaryRefuses(t *testing.T) {
	id := "3e11fa4771ca11e19e33c80aa9429562"
	for why, text := range map[string]string{
		"nothing":                    "",
		"another version":            "02",
		"a cut UUID":                 "01" + "01" + id[:8],
		"no interval":                "01" + "01" + id + "00",
		"a cut interval":             "01" + "01" + id + "01" + "01",
		"transaction 0":              "01" + "01" + id + "01" + "0000",
		"intervals that touch":       "01" + "01" + id + "02" + "0100" + "0100",
		"more intervals than bytes":  "01" + "01" + id + "ffffffff0f" + "0100",
		"a number too large":         "01" + "01" + id + "01" + "01" + "ffffffffffffffff7f",
		"a number beyond 64 bits":    "01" + "01" + id + "01" + "01" + "ffffffffffffffffff7f",
		"a number in a longer form":  "01" + "01" + id + "01" + "01" + "8000",
		"a tag that is none":         "01" + "02" + id + "39" + "01" + "0100",
		"a tag in capitals":          "01" + "02" + id + "41" + "01" + "0100",
		"the same part twice":        "01" + strings.Repeat("01"+id+"01"+"0100", 2),
		"parts in the wrong order":   "01" + "00020101" + "00010101",
		"a domain of eleven digits":  "01" + "00" + "80d0dbc3f402" + "0101",
		"a domain without a number":  "01" + "000101",
		"sequence number 0":          "01" + "00010100",
		"something behind the parts": "01" + "00010101" + "ff",
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		var s Set
		if err := s.UnmarshalBinary(b); err == nil {
			t.Errorf("%s: %s is taken as %q", why, text, s)
		}
	}
}

// TestBinaryProperty: what is written comes back, whatever the set.
func TestBinaryProperty(t *testing.T) {
	ids := rapid.SampledFrom([]string{a, b, a + ":red", a + ":rod", b + ":_1", "00000000-0000-0000-0000-000000000000", "0-1", "0-2", "7-1", "4294967295-9"})
	rapid.Check(t, func(t *rapid.T) {
		var s Set
		for range rapid.IntRange(0, 40).Draw(t, "transactions") {
			id := ids.Draw(t, "id")
			sep := ":"
			if len(id) < 36 {
				sep = "-"
			}
			n := rapid.OneOf(rapid.Int64Range(1, 40), rapid.Int64Range(1, maxNumber)).Draw(t, "n")
			if err := s.Add(id + sep + strconv.FormatInt(n, 10)); err != nil {
				t.Fatal(err)
			}
		}
		b, err := s.AppendBinary([]byte("x"))
		if err != nil || b[0] != 'x' {
			t.Fatal(b, err)
		}
		var back Set
		if err := back.UnmarshalBinary(b[1:]); err != nil || back.String() != s.String() || !back.HasAll(s) || !s.HasAll(back) {
			t.Fatalf("%s comes back as %s, %v", s, back, err)
		}
	})
}

func FuzzBinary(f *testing.F) {
	for _, text := range []string{"", a + ":1-5:7", a + ":red:2," + b + ":9", "0-1-100,3-2-3"} {
		s, _ := Parse(text)
		b, _ := s.MarshalBinary()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		kept := slices.Clone(in)
		var s Set
		if s.UnmarshalBinary(in) != nil {
			return
		}
		out, err := s.MarshalBinary()
		if err != nil || !bytes.Equal(out, kept) {
			t.Fatalf("%x is read as %q, which is written as %x, %v", kept, s, out, err)
		}
		back, err := Parse(s.String())
		if err != nil || !back.HasAll(s) || !s.HasAll(back) {
			t.Fatalf("%x is read as %q, whose text is read as %q, %v", kept, s, back, err)
		}
	})
}
