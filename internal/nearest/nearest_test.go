package nearest

import "testing"

func TestName(t *testing.T) {
	known := []string{"partitions", "retention", "id", "Category"}
	for name, want := range map[string]string{
		"partitons":  "partitions",
		"PARTITIONS": "partitions",
		"retension":  "retention",
		"category":   "Category",
		"di":         "", // as far from id as its length
		"password":   "",
		"":           "",
	} {
		if got := Name(name, known); got != want {
			t.Errorf("Name(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"same", "same", 0}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
