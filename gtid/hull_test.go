package gtid

import "testing"

func TestHull(t *testing.T) {
	const a, b = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"
	for in, want := range map[string]string{
		"":                           "",
		a + ":7":                     a + ":7",
		a + ":3-5:9:20-21":           a + ":3-21",
		a + ":1:3, " + b + ":2:8":    a + ":1-3," + b + ":2-8",
		a + ":1:3," + a + ":tag:5:7": a + ":1-3:tag:5-7",
		"0-1-5,7-2-9":                "0-1-5,7-2-9",
		b + ":1-4611686018427387904:" + "4611686018427387906": b + ":1-4611686018427387906",
	} {
		s, err := Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		before := s.String()
		hull := s.Hull()
		if hull.String() != want || !hull.HasAll(s) || s.String() != before {
			t.Errorf("the hull of %s is %s, want %s; the set is now %s", in, hull, want, s)
		}
	}
	var s Set
	for _, n := range []string{a + ":4", a + ":9", a + ":10"} {
		if err := s.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Hull().String(); got != a+":4-10" {
		t.Errorf("the hull of %s is %s", s, got)
	}
}
