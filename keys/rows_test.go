package keys

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRows runs testdata/rows/*.txt; README.md there describes the format.
func TestRows(t *testing.T) {
	files, err := filepath.Glob("testdata/rows/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { runRows(t, f) })
	}
}

func runRows(t *testing.T, file string) {
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text, cases, ok := strings.Cut(string(src), "\n---\n")
	if !ok {
		t.Fatal("no --- line after the schema")
	}
	schema, err := Parse(file, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Count(text, "\n") + 2
	var (
		binding   *Binding
		want, got []string
		asked     string
		compared  int
	)
	compare := func() {
		if asked == "" {
			return
		}
		compared++
		if !slices.Equal(want, got) {
			t.Errorf("%s:\n got %q\nwant %q", asked, got, want)
		}
	}
	for s := range strings.SplitSeq(cases, "\n") {
		line++
		word, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
		switch word {
		case "", "#":
		case "table":
			compare()
			asked, want, got = fmt.Sprintf("%s:%d %s", file, line, s), nil, nil
			binding, got = fixtureTable(t, schema, rest)
		case "insert", "update", "delete":
			compare()
			if binding == nil {
				t.Fatalf("%s:%d: no table", file, line)
			}
			asked, want = fmt.Sprintf("%s:%d %s", file, line, s), nil
			got = fixtureRow(t, binding, word, rest)
		case "route", "none", "key", "doubt", "when-errors":
			want = append(want, strings.TrimSpace(s))
		default:
			t.Fatalf("%s:%d: unknown line %q", file, line, s)
		}
	}
	compare()
	if compared == 0 {
		t.Fatal("the file has no cases")
	}
}

// fixtureTable binds "db.table (col, col)".
func fixtureTable(t *testing.T, s *Schema, text string) (*Binding, []string) {
	t.Helper()
	name, cols, _ := strings.Cut(text, " ")
	db, table, _ := strings.Cut(name, ".")
	tab := s.Table(db, table)
	if tab == nil {
		return nil, []string{"none"}
	}
	var columns []string
	for c := range strings.SplitSeq(strings.Trim(cols, "() "), ",") {
		if c = strings.TrimSpace(c); c != "" {
			columns = append(columns, c)
		}
	}
	route := []string{"route"}
	for _, i := range tab.Route() {
		route = append(route, tab.Columns()[i])
	}
	return tab.Bind(columns), []string{strings.Join(route, " ")}
}

// fixtureRow appends one change and prints the result.
func fixtureRow(t *testing.T, b *Binding, op, text string) []string {
	t.Helper()
	var before, after []Value
	switch op {
	case "insert":
		after = fixtureImage(t, text)
	case "delete":
		before = fixtureImage(t, text)
	default:
		x, y, ok := strings.Cut(text, " -> ")
		if !ok {
			t.Fatalf("no -> in %q", text)
		}
		before, after = fixtureImage(t, x), fixtureImage(t, y)
	}
	var r Result
	b.Append(&r, before, after)
	var out []string
	for _, k := range r.Keys {
		out = append(out, "key "+k)
	}
	for _, d := range r.Doubts {
		out = append(out, "doubt "+d.Rule.Name()+": "+d.Reason)
	}
	if r.WhenErrors > 0 {
		out = append(out, fmt.Sprintf("when-errors %d", r.WhenErrors))
	}
	return out
}

// fixtureImage reads a JSON array: numbers, texts, null, {} for a value that is
// not in the image, {"hex":"ff00"} for a text of these bytes.
func fixtureImage(t *testing.T, text string) []Value {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var raw []any
	if err := dec.Decode(&raw); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	image := []Value{}
	for _, r := range raw {
		v := Value{}
		switch r := r.(type) {
		case nil:
			v.Kind = Null
		case json.Number:
			v = Value{Number, r.String()}
		case string:
			v = Value{Text, r}
		case map[string]any:
			if h, ok := r["hex"].(string); ok {
				b, err := hex.DecodeString(h)
				if err != nil {
					t.Fatal(err)
				}
				v = Value{Text, string(b)}
			}
		default:
			t.Fatalf("%q: %v is not a value", text, r)
		}
		image = append(image, v)
	}
	return image
}
