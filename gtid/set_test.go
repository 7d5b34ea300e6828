package gtid

import "testing"

const (
	a = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	b = "3e11fa47-71ca-11e1-9e33-c80aa9429563"
)

func set(t *testing.T, text string) Set {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                                       "",
		a + ":1-5:7":                             a + ":1-5:7",
		a + ":7:1-5:6":                           a + ":1-7",
		a + ":1-5:red:1-3:9,\n" + b + ":1":       a + ":1-5:red:1-3:9," + b + ":1",
		"0-1-100,1-2-5":                          "0-1-100,1-2-5",
		"3E11FA47-71CA-11E1-9E33-C80AA9429562:3": a + ":3",
	} {
		if got := set(t, in).String(); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	for _, bad := range []string{"x", a, a + ":", a + ":0", a + ":5-4", a + ":1-", "0-1", "0-1-0", "a-1-3", a + ":9x:1"} {
		if s, err := Parse(bad); err == nil {
			t.Errorf("%q is taken as %q", bad, s)
		}
	}
}

func TestMembers(t *testing.T) {
	s := set(t, a+":1-5:7:red:1-3,"+b+":9")
	for g, want := range map[string]bool{
		a + ":1": true, a + ":5": true, a + ":6": false, a + ":7": true, a + ":red:3": true, a + ":red:4": false,
		a + ":blue:1": false, b + ":9": true, b + ":8": false, "0-1-3": false, "": false,
	} {
		if s.Has(g) != want {
			t.Errorf("Has(%q) = %v", g, !want)
		}
	}
	m := set(t, "0-1-100,3-1-5")
	for g, want := range map[string]bool{"0-1-100": true, "0-2-99": true, "0-1-101": false, "3-9-5": true, "2-1-1": false} {
		if m.Has(g) != want {
			t.Errorf("Has(%q) = %v", g, !want)
		}
	}
}

func TestArithmetic(t *testing.T) {
	s, u := set(t, a+":1-10"), set(t, a+":5-12,"+b+":1-2")
	if s.HasAll(u) || s.Missing(u) != 4 {
		t.Errorf("missing %d", s.Missing(u))
	}
	before := s
	s.Union(u)
	if got := s.String(); got != a+":1-12,"+b+":1-2" || !s.HasAll(u) || s.Missing(u) != 0 {
		t.Errorf("union is %s", got)
	}
	if before.String() != a+":1-10" {
		t.Errorf("a copy has changed to %s", before)
	}
	if err := s.Add("0-1-9"); err != nil || !s.Has("0-7-4") {
		t.Error("a MariaDB GTID was not added")
	}
}
