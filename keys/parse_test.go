package keys

import (
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	f.Add([]byte("version: 1\nkeys:\n  - {name: a, table: a.b, key: \"a:{x|lower}\", null: \"!\", columns: [x], when: \"a = 1\"}\n"))
	f.Add([]byte("version: 1\nkeys:\n  - name: a\n    table: a.b\n    key: |\n      a:{x}\n"))
	f.Add([]byte("version: 1\nkeys: [{name: a, table: '`a`.*', key: '{{a}}{`b`}'}]"))
	f.Add([]byte("a: &b [*b, !!x y, <<: {}]\n? z\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 2000 {
			return
		}
		s, err := Parse("f.yaml", src)
		if err != nil {
			if s != nil {
				t.Fatal("a schema and an error")
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "f.yaml:") {
					t.Fatalf("a problem without its place: %q in %q", line, err)
				}
			}
			return
		}
		again, err := Parse("g.yaml", append([]byte("# comment\n"), src...))
		if err != nil || again.Hash() != s.Hash() {
			t.Fatalf("a comment changed the schema: %v", err)
		}
		for _, r := range s.Rules() {
			if p := r.Pattern(); p == "" || strings.IndexByte("*?[", p[0]) >= 0 {
				t.Fatalf("pattern %q", p)
			}
			if r.Name() == "" || len(r.Columns()) < len(r.KeyColumns()) {
				t.Fatalf("rule %+v", r)
			}
		}
		s.Warnings()
		for _, tab := range []*Table{s.Table("a", "b"), s.Table("", "")} {
			if tab == nil {
				continue
			}
			image := make([]Value, len(tab.Columns()))
			for i := range image {
				image[i] = Value{Text, "v"}
			}
			var r Result
			b := tab.Bind(tab.Columns())
			b.Append(&r, nil, image)
			b.Append(&r, image, image)
			b.Append(&r, image, nil)
		}
	})
}
