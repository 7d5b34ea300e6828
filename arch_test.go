package doubletap_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/doubletap-cdc/doubletap"

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Standard   bool
}

// list returns the module's packages, and what the go command knows of those
// that they depend on.
func list(t *testing.T) (own map[string]pkg, standard map[string]bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports,Deps,Standard", "./...")
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		errors.As(err, &failed)
		t.Fatalf("go list: %v: %s", err, failed.Stderr)
	}
	own, standard = map[string]pkg{}, map[string]bool{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		standard[p.ImportPath] = p.Standard
		if p.ImportPath == module || strings.HasPrefix(p.ImportPath, module+"/") {
			own[strings.TrimPrefix(p.ImportPath, module+"/")] = p
		}
	}
	return own, standard
}

// below says which of these packages each may depend on. keys is light, since
// applications import it, and cache as well; the engine depends on nothing else.
var below = map[string][]string{
	"keys":      {"internal/nearest"},
	"gtid":      nil,
	"watermark": {"gtid"},
	"cache":     {"keys", "gtid", "internal/nearest", "watermark"},
	"pipeline":  {"keys", "gtid", "internal/nearest"},
	"binlog":    {"keys", "gtid", "internal/nearest", "pipeline"},
	"bus":       {"keys", "gtid", "internal/nearest", "pipeline"},
	"deleter":   {"keys", "gtid", "internal/nearest", "pipeline", "watermark"},
	"admin":     {"keys", "gtid", "internal/nearest", "pipeline"},
	"config":    {"keys", "gtid", "internal/nearest", "pipeline"},
	// The sources of a replay and its display stand on its core, not on each other,
	// and the core on none of them.
	"replay":          {"keys", "gtid", "internal/nearest", "pipeline"},
	"replay/table":    nil,
	"replay/history":  nil,
	"replay/progress": nil,
}

// libraries says which third parties the light packages may import.
var libraries = map[string][]string{
	"keys":      {"github.com/goccy/go-yaml", "github.com/expr-lang/expr"},
	"watermark": {"github.com/redis/go-redis/v9"},
	"cache":     {"github.com/redis/go-redis/v9", "github.com/sony/gobreaker/v2"},
	"pipeline":  nil,
	"replay":    {"golang.org/x/sync", "github.com/gofrs/flock"},
}

// heavy are third parties that an application must not get with the packages that
// it imports, not even through others.
var heavy = []string{
	"github.com/go-mysql-org", "github.com/go-sql-driver", "github.com/pingcap", "github.com/segmentio",
	"github.com/prometheus", "github.com/testcontainers",
}

// TestApplicationsStayLight guards what keys and cache bring with them.
func TestApplicationsStayLight(t *testing.T) {
	own, _ := list(t)
	for _, name := range []string{"keys", "cache"} {
		if len(own[name].Deps) == 0 {
			t.Errorf("package %s is not there", name)
		}
		for _, dep := range own[name].Deps {
			if slices.ContainsFunc(heavy, func(h string) bool { return strings.HasPrefix(dep, h+"/") }) {
				t.Errorf("%s depends on %s", name, dep)
			}
		}
	}
}

// TestArrows guards what may import what (docs/architecture.md).
func TestArrows(t *testing.T) {
	own, standard := list(t)
	for name, p := range own {
		top, _, _ := strings.Cut(name, "/")
		for other := range below {
			if ok, known := below[top]; known && other != top && !slices.Contains(ok, other) && slices.Contains(p.Deps, module+"/"+other) {
				t.Errorf("%s depends on %s", name, other)
			}
		}
		for _, banned := range []string{"testing", module + "/testenv", module + "/pipeline/pipelinetest"} {
			if top == "cmd" && slices.Contains(p.Deps, banned) {
				t.Errorf("%s links %s", name, banned)
			}
		}
		if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "misc"}, path.Base(name)) {
			t.Errorf("package %s: the name does not say what it is for", name)
		}
	}
	for name, ok := range libraries {
		if _, there := own[name]; !there {
			t.Errorf("package %s is not there", name)
		}
		for _, imp := range own[name].Imports {
			third := !standard[imp] && !strings.HasPrefix(imp, module+"/")
			if third && !slices.ContainsFunc(ok, func(p string) bool { return imp == p || strings.HasPrefix(imp, p+"/") }) {
				t.Errorf("%s imports %s", name, imp)
			}
		}
	}
}
