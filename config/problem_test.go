package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestProblems loads each file in testdata/*.yaml and compares all problems with
// the .txt beside it; UPDATE=1 writes the .txt.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files:", err)
	}
	t.Setenv("SET", "s3cret")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := Load(file)
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("no problems but %v", err)
			}
			e.File = filepath.Base(file)
			here, _ := filepath.Abs("testdata")
			got := strings.ReplaceAll(e.Error(), here, "DIR") + "\n"
			if strings.Contains(got, "s3cret") {
				t.Errorf("a secret is printed:\n%s", got)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestNoFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "none.yaml") {
		t.Error(err)
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	s := Secret{"s3cret"}
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	logger.Info("x", "secret", s, "struct", struct{ S Secret }{s}, "pointer", &s)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s, "struct", struct{ S Secret }{s})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		fmt.Fprintf(&log, verb+verb+verb, s, &s, struct{ P Secret }{s})
	}
	if strings.Contains(log.String(), "s3cret") || strings.Contains(log.String(), "733363726574") {
		t.Error(log.String())
	}
	if none := (Secret{}); s.Reveal() != "s3cret" || s.Empty() || !none.Empty() || none.String() != "" {
		t.Error("Reveal, Empty or String is wrong")
	}
}

func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile("../config.example.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	f.Add(minimal)
	f.Add("source: {password: 'a${")
	f.Add("? [a]\n: b\n*x : y\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, yaml string) {
		l := &loader{file: "f", dir: dir, lines: map[string]int{}, bad: map[string]bool{},
			env: func(string) (string, bool) { return "s3cret-of-the-environment", true }}
		c := l.load([]byte(yaml))
		if len(l.problems) > 0 && l.error().Error() == "" {
			t.Error("problems without a text")
		}
		if len(l.problems) == 0 && c.Redacted() == "" {
			t.Error("nothing printed")
		}
	})
}
