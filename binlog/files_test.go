package binlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
)

// sidBlock is one UUID and tag of a Previous_gtids event with some intervals.
func sidBlock(id uuid.UUID, tagged bool, tag string, intervals ...uint64) []byte {
	b := append([]byte(nil), id[:]...)
	if tagged {
		b = append(append(b, byte(len(tag)<<1)), tag...)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(len(intervals)/2))
	for _, n := range intervals {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

func TestPreviousGTIDs(t *testing.T) {
	one, two := uuid.MustParse("3e11fa47-71ca-11e1-9e33-c80aa9429562"), uuid.MustParse("4e11fa47-71ca-11e1-9e33-c80aa9429562")
	plain := slices.Concat([]byte{2, 0, 0, 0, 0, 0, 0, 0}, sidBlock(one, false, "", 1, 6, 8, 9), sidBlock(two, false, "", 3, 4))
	tagged := slices.Concat([]byte{1, 3, 0, 0, 0, 0, 0, 1}, sidBlock(one, true, "red", 1, 3), sidBlock(two, true, "", 5, 8), sidBlock(two, true, "blue", 7, 8))
	for _, c := range []struct {
		body []byte
		want string
	}{
		{make([]byte, 8), ""},
		{plain, one.String() + ":1-5:8," + two.String() + ":3"},
		{tagged, one.String() + ":red:1-2," + two.String() + ":5-7:blue:7"}, // the first has no numbers without a tag
	} {
		got, err := previousGTIDs(c.body)
		if err != nil || got.String() != c.want {
			t.Errorf("%x: %q, want %q: %v", c.body, got, c.want, err)
		}
		for n := range c.body {
			if set, err := previousGTIDs(c.body[:n]); err == nil && n >= 8 {
				t.Errorf("%d of %d bytes are taken for %q", n, len(c.body), set)
			}
		}
	}
}

func TestGTIDList(t *testing.T) {
	b := binary.LittleEndian.AppendUint32(nil, 3|1<<29)
	for _, g := range [][3]uint64{{0, 1, 100}, {0, 2, 90}, {7, 1, 3}} {
		b = binary.LittleEndian.AppendUint32(b, uint32(g[0]))
		b = binary.LittleEndian.AppendUint32(b, uint32(g[1]))
		b = binary.LittleEndian.AppendUint64(b, g[2])
	}
	got, list, err := gtidList(b)
	if err != nil || got.String() != "0-1-100,7-1-3" || !maps.Equal(list, written{"0-1": 100, "0-2": 90, "7-1": 3}) {
		t.Errorf("%q, %v: %v", got, list, err)
	}
	for n := range b {
		if set, _, err := gtidList(b[:n]); err == nil {
			t.Errorf("%d of %d bytes are taken for %q", n, len(b), set)
		}
	}
}

// TestFilesCutAnywhere: a file that is cut off at any place has the transactions
// that are whole, by both ways of reading it, and never one that is not.
func TestFilesCutAnywhere(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			s := f.start(t, testenv.MySQLOptions{Fast: true})
			cfg := tailConfig(t, s, DriverReplication, rule("item", "shop.item", "id"))
			c := mustConnect(t, cfg)
			statements := []string{
				"CREATE DATABASE shop", "CREATE TABLE shop.item (id INT PRIMARY KEY)", "FLUSH BINARY LOGS", "INSERT INTO shop.item VALUES (1), (2)", "BEGIN", "INSERT INTO shop.item VALUES (3)",
				"UPDATE shop.item SET id = 4 WHERE id = 1", "COMMIT", "CREATE TABLE shop.other (id INT)", "XA START 'a'", "INSERT INTO shop.item VALUES (5)", "XA END 'a'", "XA PREPARE 'a'", "XA ROLLBACK 'a'",
			}
			if f.name == "mysql" {
				statements = append(statements, "SET gtid_next = 'AUTOMATIC:red'", "SET binlog_transaction_compression = ON", "DELETE FROM shop.item", "SET gtid_next = 'AUTOMATIC'")
			}
			mustExec(t, c, statements...)
			srv, err := Detect(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			executed := mustState(t, cfg, srv).executed.String()
			whole := filesOf(t, cfg, binlogPath(t, cfg))
			if have := mustLook(t, whole); have.executed.String() != executed || len(have.notes) > 0 {
				t.Errorf("the files hold %q, the server has %q; %q", have.executed, executed, have.notes)
			}
			content, err := os.ReadFile(whole.files[0].path)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), filepath.Base(whole.files[0].path))
			before := -1
			for n := 400; n <= len(content); n++ {
				if err := os.WriteFile(path, content[:n], 0o600); err != nil {
					t.Fatal(err)
				}
				cut := filesOf(t, cfg, path)
				have := mustLook(t, cut)
				got := int(have.gone.Missing(have.executed))
				if got < before || n == len(content) && have.executed.String() != executed {
					t.Fatalf("%d bytes of %d: %q", n, len(content), have.executed)
				}
				if got == before && n < len(content) {
					continue // only where a transaction is whole for the first time
				}
				before = got
				if read := readAll(t, cut, have); read.String() != have.executed.String() {
					t.Errorf("%d bytes: %q are whole, read were %q", n, have.executed, read)
				}
			}
			if before < 5 {
				t.Errorf("%d transactions: the test shows nothing", before)
			}
		})
	}
}

// binlogPath returns the server's newest binlog file.
func binlogPath(t testing.TB, cfg Config) string {
	t.Helper()
	s, err := openSession(t.Context(), cfg, readTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	base, err := s.value(t.Context(), "SELECT @@log_bin_basename")
	if err != nil {
		t.Fatal(err)
	}
	logs, err := s.query(t.Context(), "SHOW BINARY LOGS")
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	path := filepath.Join(filepath.Dir(base), logs[len(logs)-1][0])
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the server's files cannot be seen from here: %v", err)
	}
	return path
}

func filesOf(t testing.TB, cfg Config, paths ...string) *Files {
	t.Helper()
	cfg.Addr = ""
	f, err := NewFiles(FilesConfig{Config: cfg, Paths: paths})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func mustLook(t testing.TB, f *Files) *inventory {
	t.Helper()
	have, err := f.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return have
}

// readAll reads the files to their end and returns the transactions that came
// whole, with what was gone before.
func readAll(t testing.TB, f *Files, have *inventory) gtid.Set {
	t.Helper()
	from, err := f.Start(t.Context(), "earliest")
	if err != nil {
		t.Fatal(err)
	}
	set := have.gone
	err = f.Run(t.Context(), from, func(_ context.Context, b pipeline.Batch) error {
		if !b.Last {
			return nil
		}
		return set.Add(b.Txn.GTID)
	})
	if !errors.Is(err, pipeline.ErrFatal) || !strings.Contains(fmt.Sprint(err), "to their end") {
		t.Fatal(err)
	}
	return set
}
