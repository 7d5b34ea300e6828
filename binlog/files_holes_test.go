package binlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/testenv"
)

// archived is the binlog of a server in files that are copied one by one.
type archived struct {
	*testing.T
	cfg  Config
	exec func(...string)
	dir  string
}

// file ends the newest file and copies it. It returns the copy, and what was
// executed by then.
func (a *archived) file() (path string, executed gtid.Set) {
	a.Helper()
	srv, err := Detect(a.Context(), a.cfg)
	if err != nil {
		a.Fatal(err)
	}
	if executed, err = gtid.Parse(mustState(a, a.cfg, srv).executed.String()); err != nil {
		a.Fatal(err)
	}
	from := binlogPath(a, a.cfg)
	a.exec("FLUSH BINARY LOGS")
	content, err := os.ReadFile(from)
	path = filepath.Join(a.dir, filepath.Base(from))
	if err = errors.Join(err, os.WriteFile(path, content, 0o600)); err != nil {
		a.Fatal(err)
	}
	return path, executed
}

// TestFilesWithAHole: where the files between two others are missing, a range that
// reaches over them is known to be incomplete, and one beside them to be complete.
func TestFilesWithAHole(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			cfg := tailConfig(t, f.start(t, testenv.MySQLOptions{Fast: true}), DriverReplication, rule("item", "shop.item", "id"))
			c := mustConnect(t, cfg)
			a := &archived{T: t, cfg: cfg, dir: t.TempDir(), exec: func(statements ...string) { mustExec(t, c, statements...) }}
			a.exec("CREATE DATABASE shop", "CREATE TABLE shop.item (id INT PRIMARY KEY)", "FLUSH BINARY LOGS", "INSERT INTO shop.item VALUES (1)")
			first, to1 := a.file()
			empty, _ := a.file()
			a.exec("INSERT INTO shop.item VALUES (2)", "INSERT INTO shop.item VALUES (3)")
			between, to3 := a.file()
			a.exec("INSERT INTO shop.item VALUES (4)")
			last, to4 := a.file()

			whole := filesOf(t, cfg, last, between, empty, first)
			if notes, holes := holesOf(t, whole, "earliest", to4, time.Time{}); len(notes)+holes > 0 {
				t.Errorf("nothing is missing: %q, %d holes", notes, holes)
			}
			files := filesOf(t, cfg, last, empty, first)
			notes, _ := holesOf(t, files, "earliest", to4, time.Time{})
			if len(notes) != 1 || !strings.Contains(notes[0], "Between "+empty+" and "+last+", 2 transactions are missing") {
				t.Errorf("notes %q", notes)
			}
			later, earlier := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
			for what, c := range map[string]struct {
				from  string
				want  gtid.Set
				until time.Time
				holes int
			}{
				"transactions on both sides":        {"earliest", to4, time.Time{}, 1},
				"transactions up to it":             {"earliest", to1, time.Time{}, 0},
				"transactions inside of it":         {"earliest", to3.Minus(to1), time.Time{}, 1},
				"transactions behind it":            {to3.String(), to4.Minus(to3), time.Time{}, 0},
				"a time on both sides":              {"earliest", gtid.Set{}, later, 1},
				"a time without an end":             {"earliest", gtid.Set{}, time.Time{}, 1},
				"a time that ends long before it":   {"earliest", gtid.Set{}, earlier, 0},
				"a time that begins with the last":  {to3.String(), gtid.Set{}, time.Time{}, 0},
				"a time that begins at the hole":    {to1.String(), gtid.Set{}, later, 1},
				"a time that is long before all":    {"earliest", gtid.Set{}, time.Unix(1, 0), 0},
				"transactions that begin before it": {to1.String(), to4.Minus(to1), time.Time{}, 1},
			} {
				if _, holes := holesOf(t, files, c.from, c.want, c.until); holes != c.holes {
					t.Errorf("%s: %d holes, want %d", what, holes, c.holes)
				}
			}
		})
	}
}

// holesOf returns all that is missing, and how many holes a range has.
func holesOf(t *testing.T, f *Files, from string, want gtid.Set, until time.Time) (notes []string, holes int) {
	t.Helper()
	notes, err := f.Notes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := mustLook(t, f).gone
	if from != "earliest" {
		if at, err = gtid.Parse(from); err != nil {
			t.Fatal(err)
		}
	}
	found, err := f.Holes(t.Context(), f.position(at), want, until)
	if err != nil {
		t.Fatal(err)
	}
	return notes, len(found)
}

// TestFilesWithAHiddenHole: servers of MariaDB that write to one domain without
// counting on from each other. What is missing has lower numbers than what is there.
func TestFilesWithAHiddenHole(t *testing.T) {
	f := flavors[1]
	if f.name != "mariadb" {
		t.Fatal(f.name)
	}
	cfg := tailConfig(t, f.start(t, testenv.MySQLOptions{Fast: true}), DriverReplication, rule("item", "shop.item", "id"))
	c := mustConnect(t, cfg)
	a := &archived{T: t, cfg: cfg, dir: t.TempDir(), exec: func(statements ...string) { mustExec(t, c, statements...) }}
	as := func(server, number, id int) {
		a.exec(fmt.Sprintf("SET SESSION server_id = %d", server), fmt.Sprintf("SET SESSION gtid_seq_no = %d", number),
			fmt.Sprintf("INSERT INTO shop.item VALUES (%d)", id), "SET SESSION server_id = @@global.server_id")
	}
	a.exec("CREATE DATABASE shop", "CREATE TABLE shop.item (id INT PRIMARY KEY)", "FLUSH BINARY LOGS", "INSERT INTO shop.item VALUES (1)",
		"SET SESSION gtid_seq_no = 1000", "INSERT INTO shop.item VALUES (2)")
	as(77, 11, 3)
	first, _ := a.file()
	as(77, 12, 4)
	between, _ := a.file()
	as(78, 13, 5)
	other, _ := a.file()
	a.exec("INSERT INTO shop.item VALUES (6)")
	last, all := a.file()
	upTo2, _ := gtid.Parse(fmt.Sprintf("0-%s-1000", strings.Split(all.String(), "-")[1]))
	if !all.HasAll(upTo2) || upTo2.Missing(all) != 1 {
		t.Fatalf("the server executed %q, want one more than %q", all, upTo2)
	}
	for what, c := range map[string]struct {
		paths          []string
		notes          int
		byGTID, byTime int
	}{
		"nothing":                                 {[]string{first, between, other, last}, 0, 0, 0},
		"one of a server that is known":           {[]string{first, other, last}, 1, 1, 1},
		"one of a server that may be of any time": {[]string{first, between, last}, 1, 1, 0},
	} {
		files := filesOf(t, cfg, c.paths...)
		notes, byGTID := holesOf(t, files, "earliest", all, time.Time{})
		_, byTime := holesOf(t, files, "earliest", gtid.Set{}, time.Time{})
		if len(notes) != c.notes || byGTID != c.byGTID || byTime != c.byTime {
			t.Errorf("%s is missing: notes %q, %d holes by GTIDs, %d by time", what, notes, byGTID, byTime)
		}
		if _, holes := holesOf(t, files, "earliest", upTo2, time.Time{}); holes > 0 {
			t.Errorf("%s is missing behind the range, which has %d holes", what, holes)
		}
	}
}
