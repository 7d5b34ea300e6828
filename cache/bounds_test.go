package cache

import (
	"encoding/hex"
	"testing"
)

func TestBounds(t *testing.T) {
	id := "3e11fa4771ca11e19e33c80aa9429562"
	for want, b := range map[string]bounds{
		"": {},
		"15" + "0101" + id + "010104" + "0101" + id + "010109": {least: set(t, serverA+":1-5"), most: set(t, serverA+":1-10")},
		"15" + "0101" + id + "010104":                          {least: set(t, serverA+":1-5")},
		"00" + "0101" + id + "010104":                          {most: set(t, serverA+":1-5")},
		"05" + "0100000102" + "0100000103":                     {least: set(t, "0-1-2"), most: set(t, "0-1-3")},
	} {
		got, err := b.marshal()
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%v is written as %x, %v; want %s", b, got, err, want)
		}
		back, ok := parseBounds(got)
		if !ok || back.least.String() != b.least.String() || back.most.String() != b.most.String() {
			t.Errorf("%v comes back as %v, %v", b, back, ok)
		}
	}
	for why, text := range map[string]string{
		"a length beyond the end": "16" + "0101" + id + "010104",
		"a cut length":            "80",
		"an empty set written":    "0101",
		"an empty set behind":     "00" + "01",
		"no set":                  "00" + "ff",
	} {
		data, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if b, ok := parseBounds(data); ok {
			t.Errorf("%s: %s is taken as %v", why, text, b)
		}
	}
}
