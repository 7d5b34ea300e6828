package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// documented are the rows "| `setting` | kind | default | meaning |".
func documented(t *testing.T) map[string]string {
	t.Helper()
	doc, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\| [^|]+ \\| ([^|]+) \\|").FindAllStringSubmatch(string(doc), -1) {
		rows[m[1]] = strings.TrimSpace(m[2])
	}
	return rows
}

// settings lists all settings; those of each tls section as one.
func settings() []string {
	var all []string
	for _, p := range paths(reflect.TypeFor[Config](), "") {
		if i := strings.Index(p, "tls."); i >= 0 {
			p = p[i:]
		}
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

func TestEverySettingIsDocumented(t *testing.T) {
	rows := documented(t)
	sections := []string{"source", "log", "redis", "second_delete", "trust", "admin"}
	for _, s := range settings() {
		if _, ok := rows[s]; !ok && !slices.Contains(sections, s) {
			t.Errorf("docs/configuration.md does not describe %s", s)
		}
	}
	for s := range rows {
		if !slices.Contains(settings(), s) {
			t.Errorf("docs/configuration.md describes %s, which is not a setting", s)
		}
	}
}

func TestEverySettingIsInTheExample(t *testing.T) {
	example, err := os.ReadFile("../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settings() {
		name := s[strings.LastIndexByte(s, '.')+1:]
		if !regexp.MustCompile(`(?m)\b` + name + `\b`).Match(example) {
			t.Errorf("config.example.yaml does not mention %s", s)
		}
	}
}

// TestDocumentedDefaults compares the defaults that are plain values.
func TestDocumentedDefaults(t *testing.T) {
	c := Default()
	c.Log.Kafka, c.Log.Embedded = &Kafka{}, &Embedded{}
	c.Log.Kafka.setDefaults()
	c.Log.Embedded.setDefaults()
	rows := documented(t)
	compared := 0
	for _, s := range settings() {
		want, ok := strings.CutPrefix(rows[s], "`")
		if !ok || strings.HasPrefix(s, "tls.") {
			continue
		}
		v := reflect.ValueOf(c)
		for name := range strings.SplitSeq(s, ".") {
			v, _, _ = fieldByName(reflect.Indirect(v), name)
		}
		got := fmt.Sprint(v.Interface())
		switch x := v.Interface().(type) {
		case bool:
			got = map[bool]string{true: "on", false: "off"}[x]
		case time.Duration:
			if d, err := parseDuration(strings.TrimSuffix(want, "`")); err == nil && d == x {
				got = strings.TrimSuffix(want, "`")
			}
		}
		compared++
		if got+"`" != want {
			t.Errorf("%s: documented default `%s, but it is %s", s, want, got)
		}
	}
	if compared < 10 {
		t.Errorf("only %d defaults were compared", compared)
	}
}
