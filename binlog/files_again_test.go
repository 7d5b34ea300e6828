package binlog

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv"
)

// TestFilesAgain: files that were looked through are not looked through again,
// where nothing says that they have changed.
func TestFilesAgain(t *testing.T) {
	cfg := tailConfig(t, flavors[0].start(t, testenv.MySQLOptions{Fast: true}), DriverReplication, rule("item", "shop.item", "id"))
	c := mustConnect(t, cfg)
	a := &archived{T: t, cfg: cfg, dir: t.TempDir(), exec: func(statements ...string) { mustExec(t, c, statements...) }}
	a.exec("CREATE DATABASE shop", "CREATE TABLE shop.item (id INT PRIMARY KEY)")
	path, want := a.file()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again := func(earlier *Files, content []byte, modified time.Time) (*Files, error) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, content, 0o600), os.Chtimes(path, modified, modified)); err != nil {
			t.Fatal(err)
		}
		cfg := cfg
		cfg.Addr = ""
		f, err := NewFiles(FilesConfig{Config: cfg, Paths: []string{path}, Earlier: earlier})
		if err != nil {
			t.Fatal(err)
		}
		have, err := f.look(t.Context())
		if err == nil && have.executed.String() != want.String() {
			t.Errorf("the file holds %q, want %q", have.executed, want)
		}
		return f, err
	}
	at := time.Now().Add(-time.Hour)
	first, err := again(nil, content, at)
	if err != nil {
		t.Fatal(err)
	}
	// Whoever reads it finds that it is damaged.
	damaged := append([]byte(nil), content...)
	damaged[len(damaged)/2] ^= 1
	same, err := again(first, damaged, at)
	if err != nil {
		t.Errorf("the same size and time: %v", err)
	}
	for what, c := range map[string]struct {
		earlier  *Files
		content  []byte
		modified time.Time
		want     string
	}{
		"never looked at":      {nil, damaged, at, "damaged"},
		"the same twice":       {same, damaged, at, ""},
		"written to":           {first, damaged, at.Add(time.Second), "damaged"},
		"longer":               {first, append(damaged, 0), at, "damaged"},
		"looked at in vain":    {&Files{}, damaged, at, "damaged"},
		"whole, and a new one": {first, content, time.Now(), ""},
	} {
		if _, err := again(c.earlier, c.content, c.modified); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}
