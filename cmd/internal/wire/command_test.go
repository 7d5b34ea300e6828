package wire

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// TestCheckDir: -check says what a start would fail for, and makes nothing.
func TestCheckDir(t *testing.T) {
	top := t.TempDir()
	file, closed := filepath.Join(top, "file"), filepath.Join(top, "closed")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(closed, 0o500); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		top: "", filepath.Join(top, "new", "data"): "",
		file: "is a file", filepath.Join(file, "data"): "file",
		closed: "permission denied", filepath.Join(closed, "data"): "permission denied",
	} {
		err := mayWrite(dir)
		switch {
		case want == "permission denied" && os.Getuid() == 0: // root may
		case (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want):
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(top, "new")); err == nil {
		t.Error("the folder was made")
	}
}

// TestUsage: help is what was asked for, so it goes to standard output.
func TestUsage(t *testing.T) {
	var out, errs bytes.Buffer
	if code := Main(Invalidator, []string{"-h"}, &out, &errs); code != ExitOK || errs.Len() > 0 {
		t.Errorf("%d, %q", code, errs.String())
	}
	for _, want := range []string{"invalidator -config ", "invalidator -healthy ", "invalidator -version", "-check", "Exit codes"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s lacks %q", out.String(), want)
		}
	}
	out.Reset()
	if code := Main(Invalidator, []string{"-chekc"}, &out, &errs); code != ExitUsage || out.Len() > 0 || !strings.Contains(errs.String(), "-chekc") {
		t.Errorf("%d, %q, %q", code, out.String(), errs.String())
	}
	errs.Reset()
	if code := Main(Invalidator, []string{"-healthy", "127.0.0.1:1"}, &out, &errs); code != ExitRuntime ||
		!strings.Contains(errs.String(), "invalidator: ask 127.0.0.1:1 whether it is ready: ") || !strings.Contains(errs.String(), "admin address") {
		t.Errorf("%d, %q", code, errs.String())
	}
}

// TestCheckOutput: what must be mended stands next to the verdict.
func TestCheckOutput(t *testing.T) {
	path := write(t, map[string]string{
		"keys.yaml":      "version: 1\nkeys:\n  - {name: item, table: shop.item, key: 'item:{id}'}\n",
		"doubletap.yaml": plain,
	})
	c := Command{Name: "x", Check: func(context.Context, *App, bool) []pipeline.Finding {
		return []pipeline.Finding{
			{Severity: pipeline.Refusal, Check: "a", Problem: "bad"}, {Severity: pipeline.Note, Check: "b", Problem: "so"},
			{Severity: pipeline.Warning, Check: "c", Problem: "weak"},
		}
	}}
	var out bytes.Buffer
	if code := Main(c, []string{"-config", path, "-check"}, &out, &out); code != ExitUsage {
		t.Errorf("exit code %d", code)
	}
	_, rest, ok := strings.Cut(out.String(), "The configuration in effect:")
	if want := "note: b: so\nwarning: c: weak\nrefused: a: bad\n\nx would refuse to start: 1 of 3 findings must be fixed first.\n"; !ok || !strings.HasSuffix(rest, want) {
		t.Errorf("%s", out.String())
	}
}
