package history

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// copyBinlogs copies the server's binlog files into a folder.
func (l *binlogLab) copyBinlogs() (folder string, names []string) {
	l.Helper()
	var base string
	if err := l.db.QueryRowContext(l.Context(), "SELECT @@log_bin_basename").Scan(&base); err != nil {
		l.Fatal(err)
	}
	found, err := filepath.Glob(base + ".[0-9][0-9][0-9][0-9][0-9][0-9]") // MariaDB has others beside them
	if err != nil || len(found) == 0 {
		l.Skipf("the server's files cannot be seen from here (%s): %v", base, err)
	}
	folder = l.TempDir()
	for _, f := range found {
		l.copyFile(f, filepath.Join(folder, filepath.Base(f)), -1)
		names = append(names, filepath.Base(f))
	}
	l.copyFile(base+".index", filepath.Join(folder, filepath.Base(base)+".index"), -1)
	slices.Sort(names)
	return folder, names
}

// copyFile copies the first bytes of a file, all if limit is negative.
func (l *binlogLab) copyFile(from, to string, limit int) {
	l.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		l.Fatal(err)
	}
	if limit >= 0 {
		b = b[:limit]
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		l.Fatal(err)
	}
}

// files are what a replay of files stands on.
func (l *binlogLab) files(addr string, paths ...string) func() BinlogDeps {
	return func() BinlogDeps {
		l.Helper()
		cfg := l.cfg
		cfg.Addr = addr
		f, err := binlog.NewFiles(binlog.FilesConfig{Config: cfg, Paths: paths})
		if err != nil {
			l.Fatal(err)
		}
		return BinlogDeps{Source: f, Since: f.Since, Notes: f.Notes, Holes: f.Holes, InOrder: f.InOrder, Name: "shop", Schema: l.schema.Hash(), Patience: time.Minute, Logger: cfg.Logger}
	}
}

// testFiles: files say the same as the server, which is down by then.
func testFiles(l *binlogLab) {
	from := l.executed()
	want := l.insert(1, 2)
	if l.maria {
		l.exec("SET GLOBAL log_bin_compress = ON", "INSERT INTO item VALUES (3, REPEAT('x', 400), 's')", "SET GLOBAL log_bin_compress = OFF")
	} else {
		l.exec("SET binlog_transaction_compression = ON", "INSERT INTO item VALUES (3, REPEAT('x', 400), 's')", "SET binlog_transaction_compression = OFF")
	}
	l.exec("FLUSH BINARY LOGS")
	l.insert(4)
	l.exec("SET GLOBAL binlog_checksum = NONE")
	l.insert(5)
	l.exec("SET GLOBAL binlog_checksum = CRC32")
	l.exec("CREATE TABLE d (i INT)", "INSERT INTO d VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
		"INSERT INTO item SELECT 100 + a.i + 10*b.i + 100*c.i + 1000*e.i, '', 's' FROM d a, d b, d c, d e", "TRUNCATE item",
		"XA START 'f'", "INSERT INTO item VALUES (7, '', 's')", "XA END 'f'", "XA PREPARE 'f'", "XA COMMIT 'f'")
	p := l.plan(l.deps, BinlogSpec{After: from})
	server := said(p.read()...)
	if want = append(want, "+3", "+4", "+5"); !slices.Equal(server[:5], want) || len(server) != 10_007 {
		l.Fatalf("the server says %d changes, first %s", len(server), server[:5])
	}
	folder, names := l.copyBinlogs()
	if err := l.server.Kill(); err != nil {
		l.Fatal(err)
	}
	deps := l.files("", folder)
	p = l.plan(deps, BinlogSpec{After: from})
	chunks := p.read()
	if got := said(chunks...); !slices.Equal(got, server) {
		l.Errorf("the files say %d changes (%s), the server %d", len(got), got[:min(20, len(got))], len(server))
	}
	if len(p.Warnings) > 0 || chunks[len(chunks)-1].Done != 1 {
		l.Errorf("warnings %q, done %v", p.Warnings, chunks[len(chunks)-1].Done)
	}
	before := 0
	for i, c := range chunks {
		before += len(said(c))
		if got := said(p.from(p.reopen(), c.Next)...); !slices.Equal(got, server[before:]) {
			l.Errorf("behind chunk %d come %d changes, want %d", i, len(got), len(server)-before)
		}
	}
	if all := said(l.plan(deps, BinlogSpec{}).read()...); !slices.Equal(all[len(all)-len(server):], server) {
		l.Error("everything in the files does not end as the range does")
	}
	early, err := OpenBinlog(deps(), BinlogSpec{Since: time.Now().Add(-24 * time.Hour)})
	if err != nil {
		l.Fatal(err)
	}
	if _, err := early.Plan(l.Context()); err == nil || !strings.Contains(err.Error(), "the binlogs begin at") {
		l.Errorf("a range that begins before the files: %v", err)
	}
	l.expect(l.plan(deps, BinlogSpec{Since: time.Now().Add(time.Hour)}).read(), said(heldRows(chunks))...)
	l.testDamage(folder, names, from, server)
}

// heldRows are the rows of the XA transaction: where a range begins behind it in
// the same file, its COMMIT might be in the range for all that is known.
func heldRows(chunks []replay.Chunk) (out replay.Chunk) {
	for _, c := range chunks {
		for _, e := range c.Events {
			if strings.Contains(e.GTID, "-") && len(e.Tables) > 0 && e.Tables[0].Rows[0].After != nil && e.Tables[0].Rows[0].After[0].Text == "7" {
				out.Events = append(out.Events, e)
			}
		}
	}
	return out
}

// testDamage: files that are cut off, missing, encrypted, or none.
func (l *binlogLab) testDamage(folder string, names []string, from string, server []string) {
	last := filepath.Join(folder, names[len(names)-1])
	info, err := os.Stat(last)
	if err != nil {
		l.Fatal(err)
	}
	cut := l.TempDir()
	for _, n := range names {
		l.copyFile(filepath.Join(folder, n), filepath.Join(cut, n), -1)
	}
	// From the end on: what is whole is replayed, in the order of the server.
	for _, size := range []int{int(info.Size()) - 3, int(info.Size()) * 9 / 10, int(info.Size()) / 2, int(info.Size()) / 5} {
		l.copyFile(last, filepath.Join(cut, names[len(names)-1]), size)
		p := l.plan(l.files("", cut), BinlogSpec{After: from})
		got := said(p.read()...)
		if len(got) > len(server) || !slices.Equal(got, server[:len(got)]) || len(got) < 5 {
			l.Errorf("cut off at %d: %d changes", size, len(got))
		}
		if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "is cut off at") {
			l.Errorf("cut off at %d: warnings %q", size, p.Warnings)
		}
	}
	// Without the file that holds 4.
	paths := make([]string, 0, len(names))
	for _, n := range names {
		paths = append(paths, filepath.Join(folder, n))
	}
	slices.Reverse(paths) // in any order
	i := slices.IndexFunc(paths, func(p string) bool { return l.holds(p, "+4") })
	for _, c := range []struct {
		spec BinlogSpec
		want string
	}{
		{BinlogSpec{After: from}, map[bool]string{true: "1 transactions are missing", false: "1 of the transactions were purged"}[l.maria]},
		{BinlogSpec{Since: time.Now()}, "1 transactions are missing"}, // read from the first file on
	} {
		missing, err := OpenBinlog(l.files("", slices.Delete(slices.Clone(paths), i, i+1)...)(), c.spec)
		if err != nil {
			l.Fatal(err)
		}
		_, err = missing.Plan(l.Context())
		if _, gap := errors.AsType[*pipeline.GapError](err); !gap || !strings.Contains(err.Error(), c.want) {
			l.Errorf("without the file of 4: %v, want %q", err, c.want)
		}
	}
	// Everything that there is leaves nothing out that was asked for.
	p := l.plan(l.files("", slices.Delete(slices.Clone(paths), i, i+1)...), BinlogSpec{})
	got := said(p.read()...)
	if slices.Contains(got, "+4") || !slices.Contains(got, "+3") || !slices.Contains(got, "+5") || !strings.Contains(strings.Join(p.Warnings, " "), "are missing") {
		l.Errorf("without the file of 4: %d changes, first %s, warnings %q", len(got), got[:min(len(got), 6)], p.Warnings)
	}
	l.testRefused(folder, names)
}

// holds says whether a file alone has a change.
func (l *binlogLab) holds(path, change string) bool {
	l.Helper()
	return slices.Contains(said(l.plan(l.files("", path), BinlogSpec{}).read()...), change)
}

func (l *binlogLab) testRefused(folder string, names []string) {
	l.Helper()
	write := func(name string, content ...byte) string {
		path := filepath.Join(l.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			l.Fatal(err)
		}
		return path
	}
	damaged, err := os.ReadFile(filepath.Join(folder, names[0]))
	if err != nil {
		l.Fatal(err)
	}
	both := l.TempDir()
	l.copyFile(filepath.Join(folder, names[0]), filepath.Join(both, "binlog.000001"), -1)
	l.copyFile(filepath.Join(folder, names[0]), filepath.Join(both, "relay-bin.000001"), -1)
	damaged[len(damaged)-10] ^= 1
	for _, c := range []struct{ path, want string }{
		{write("binlog.000001", 0xfd, 'b', 'i', 'n', 0, 0), "encrypted"},
		{write("binlog.000001", 0x1f, 0x8b, 8, 0), "gzip"},
		{write("binlog.000001", 'S', 'Q', 'L', ' '), "not a binlog"},
		{write("binlog.000001", 0xfe, 'b', 'i', 'n', 1, 2), "leave it out"},
		{l.TempDir(), "holds no binlog files"},
		{both, "holds files of binlog and of relay-bin"},
		{filepath.Join(folder, "nothing.000001"), "no such file"},
		{write("binlog.000001", damaged...), "damaged"},
	} {
		cfg := l.cfg
		cfg.Addr = ""
		f, err := binlog.NewFiles(binlog.FilesConfig{Config: cfg, Paths: []string{c.path}})
		if err == nil {
			_, err = f.Notes(l.Context())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			l.Errorf("%s: %v, want %q", c.path, err, c.want)
		}
	}
}

// testFilesWithoutNames: a server that does not name columns in its binlog is
// asked for them; what it cannot tell makes the table stale.
func testFilesWithoutNames(l *binlogLab) {
	from := l.executed()
	want := l.insert(1, 2)
	if l.maria { // it can leave out even what it takes to read a text or an integer
		l.exec("SET GLOBAL binlog_row_metadata = NO_LOG")
		want = append(want, l.insert(3)...)
		l.exec("SET GLOBAL binlog_row_metadata = MINIMAL")
	}
	l.exec("FLUSH BINARY LOGS")
	folder, _ := l.copyBinlogs()
	spec := BinlogSpec{After: from}
	l.expect(l.plan(l.files(l.server.Addr, folder), spec).read(), want...)

	l.exec("ALTER TABLE item ADD x INT")
	l.expect(l.plan(l.files(l.server.Addr, folder), spec).read(), slices.Repeat([]string{"!shop.item"}, len(want))...)

	p := l.plan(l.files("", folder), spec)
	err := p.source.Read(l.Context(), "", func(context.Context, replay.Chunk) error { return nil })
	if !errors.Is(err, pipeline.ErrFatal) || !strings.Contains(fmt.Sprint(err), "do not name the columns of shop.item") {
		l.Errorf("without a server: %v", err)
	}
}
