package wire

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/replay/history"
)

// TestFilesFromAnotherFolder: what is kept for a resumed replay names its files
// wherever it is resumed.
func TestFilesFromAnotherFolder(t *testing.T) {
	here := t.TempDir()
	t.Chdir(here)
	args, problems := parseReplay([]string{"binlog", "-config", "doubletap.yaml", "-files", "binlog.000001", "../binlog.000002", filepath.Join(here, "a")}, time.Now())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r := &replaying{args: args}
	if err := r.absolute(); err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	kept, err := json.Marshal(r.args.binlogSpec())
	if err != nil {
		t.Fatal(err)
	}
	var spec history.BinlogSpec
	if err := json.Unmarshal(kept, &spec); err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(here, "binlog.000001"), filepath.Join(filepath.Dir(here), "binlog.000002"), filepath.Join(here, "a")}
	if len(spec.Files) != len(want) {
		t.Fatalf("%q, want %q", spec.Files, want)
	}
	for i, path := range want {
		if spec.Files[i] != path {
			t.Errorf("%s, want %s", spec.Files[i], path)
		}
	}
}
