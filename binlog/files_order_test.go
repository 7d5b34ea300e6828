package binlog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/testenv"
)

// TestFilesOfTwoServers: an archive that goes across a failover has files with one
// base name and numbers that say nothing. Whatever is in them comes.
func TestFilesOfTwoServers(t *testing.T) {
	f := flavors[0] // of MariaDB, positions cannot say what two servers lack
	archive := t.TempDir()
	server := func(sub string) (cfg Config, exec func(...string), file func() string, executed func() gtid.Set) {
		cfg = tailConfig(t, f.start(t, testenv.MySQLOptions{Fast: true}), DriverReplication, rule("item", "shop.item", "id"))
		c := mustConnect(t, cfg)
		srv, err := Detect(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		exec = func(statements ...string) { mustExec(t, c, statements...) }
		file = func() string {
			path := binlogPath(t, cfg)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(archive, sub, filepath.Base(path))
			if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, content, 0o600)); err != nil {
				t.Fatal(err)
			}
			return to
		}
		executed = func() gtid.Set {
			set, err := gtid.Parse(mustState(t, cfg, srv).executed.String())
			if err != nil {
				t.Fatal(err)
			}
			return set
		}
		return cfg, exec, file, executed
	}
	cfg, exec, file, executed := server("old")
	exec("CREATE DATABASE shop", "CREATE TABLE shop.item (id INT PRIMARY KEY)", "CREATE TABLE shop.other (id INT)")
	for range 8 { // more files than the new server has
		exec("FLUSH BINARY LOGS")
	}
	exec("INSERT INTO shop.item VALUES (1)", "INSERT INTO shop.item VALUES (2)")
	oldFile, oldSet := file(), executed()

	_, exec, file, executed = server("new")
	exec("CREATE DATABASE shop", "CREATE TABLE shop.item (id INT PRIMARY KEY)", "FLUSH BINARY LOGS", "INSERT INTO shop.item VALUES (3)")
	apart, apartSet := file(), executed()
	uuid, _, _ := strings.Cut(oldSet.String(), ":")
	for _, n := range []string{"1", "2", "3", "4", "5"} { // what a replica would have of it
		exec("SET gtid_next = '"+uuid+":"+n+"'", "BEGIN", "COMMIT")
	}
	exec("SET gtid_next = 'AUTOMATIC'", "FLUSH BINARY LOGS", "INSERT INTO shop.item VALUES (4)")
	behind, behindSet := file(), executed()
	if oldSet.String() != uuid+":1-5" || !behindSet.HasAll(oldSet) {
		t.Fatalf("%q, then %q", oldSet, behindSet)
	}
	for what, c := range map[string]struct {
		file    string
		all     gtid.Set
		first   string
		inOrder bool
	}{
		"a server of which nothing was replicated": {apart, apartSet, apart, false},
		"the replica that took over":               {behind, behindSet, oldFile, true},
	} {
		files := filesOf(t, cfg, c.file, oldFile)
		have, all := mustLook(t, files), c.all
		all.Union(oldSet)
		if have.executed.String() != all.String() || !have.gone.Intersect(have.files[0].holds).Empty() || !have.gone.Intersect(have.files[1].holds).Empty() {
			t.Errorf("%s: the files hold %q and lack %q, want %q", what, have.executed, have.gone, all)
		}
		if inOrder, err := files.InOrder(t.Context()); inOrder != c.inOrder || err != nil {
			t.Errorf("%s: in order: %t, %v", what, inOrder, err)
		}
		if files.files[0].path != c.first {
			t.Errorf("%s: %s comes first", what, files.files[0].path)
		}
		if got := readAll(t, files, have); got.String() != all.String() {
			t.Errorf("%s: read were %q, want %q", what, got, all)
		}
	}
}

// TestBegunBefore: no file is left out, whatever clocks said when it was begun.
func TestBegunBefore(t *testing.T) {
	noon := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name  string
		begun []int // minutes behind noon
		at    int
		want  int
	}{
		{"in order", []int{0, 10, 20, 30}, 25, 2},
		{"within the slack", []int{0, 10, 20, 30}, 20, 1},
		{"before all", []int{0, 10, 20, 30}, -5, 0},
		{"behind all", []int{0, 10, 20, 30}, 60, 3},
		{"one file", []int{0}, 60, 0},
		{"one under a clock that is ahead", []int{0, 10, 600, 30, 40, 50}, 25, 1},
		{"and a time behind it", []int{0, 10, 600, 30, 40, 50}, 45, 4},
		{"one under a clock that is back", []int{0, 10, -9000, 30, 40, 50}, 25, 1},
		{"the last of all", []int{0, 10, 20, -9000}, 25, 2},
		{"the first of all", []int{-9000, 10, 20, 30}, 25, 2},
		{"set back within the slack", []int{0, 10, 10, 9, 30}, 25, 3},
	} {
		asked := 0
		got, err := begunBefore(len(c.begun), noon.Add(time.Duration(c.at)*time.Minute), func(i int) (time.Time, error) {
			asked++
			return noon.Add(time.Duration(c.begun[i]) * time.Minute), nil
		})
		if err != nil || got != c.want {
			t.Errorf("%s: %d, want %d: %v", c.name, got, c.want, err)
		}
		if c.want == 0 && c.at < 0 && asked != 1 {
			t.Errorf("%s: asked %d times", c.name, asked)
		}
	}
	broken := errors.New("broken")
	for bad := range 3 {
		_, err := begunBefore(3, noon, func(i int) (time.Time, error) {
			if i == bad {
				return time.Time{}, broken
			}
			return noon.Add(time.Duration(i-9) * time.Minute * 10 * time.Duration(1+i)), nil
		})
		if bad != 1 && !errors.Is(err, broken) { // 1 is asked where 2 is the one
			t.Errorf("file %d: %v", bad, err)
		}
	}
}
