package gtid

import "testing"

func TestIntersect(t *testing.T) {
	for _, c := range [][3]string{
		{a + ":1-10," + b + ":5", a + ":3-4:9-20", a + ":3-4:9-10"},
		{a + ":1-10", b + ":1-10", ""},
		{a + ":1-5:red:1-3", a + ":5:red:3-9", a + ":5:red:3"},
		{"0-1-100,1-1-5", "0-2-90", "0-1-90"},
		{"", a + ":1", ""},
	} {
		got := set(t, c[0]).Intersect(set(t, c[1]))
		if got.String() != c[2] || !set(t, c[0]).HasAll(got) || !set(t, c[1]).HasAll(got) {
			t.Errorf("%s and %s have %s in common, want %s", c[0], c[1], got, c[2])
		}
	}
}
