package binlog

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/google/uuid"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// binlogFile is what the beginning of a file says.
type binlogFile struct {
	path     string
	base     string // its name without the number
	number   uint64
	size     int64 // when its beginning was read, as is the time it was written to
	modified time.Time
	begun    time.Time
	server   Server // Flavor and Version only
	before   gtid.Set
	list     written // of MariaDB the same, by server
	checksum bool    // every event ends with a CRC32
}

// findFiles returns the binlog files of paths in the order in which they were
// written: what came before a file grows from one to the next. Neither numbers
// tell that, where the files are of two servers, nor clocks.
func findFiles(paths []string) ([]binlogFile, error) {
	if len(paths) == 0 {
		return nil, errors.New("no binlog file is named")
	}
	var found []binlogFile
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("find binlog files: %w", err)
		}
		names := []string{path}
		if info.IsDir() {
			if names, err = inFolder(path); err != nil {
				return nil, err
			}
		}
		for _, name := range names {
			file, err := newBinlogFile(name)
			if err != nil {
				return nil, fmt.Errorf("binlog file %s: %w", name, err)
			}
			found = append(found, file)
		}
	}
	slices.SortStableFunc(found, func(a, b binlogFile) int {
		none := gtid.Set{}
		return cmp.Or(cmp.Compare(none.Missing(a.before), none.Missing(b.before)), a.begun.Compare(b.begun), cmp.Compare(a.number, b.number))
	})
	return found, nil
}

// inFolder returns the files of a folder that look like those of a binlog: the
// name ends in a number, and the content begins as theirs does.
func inFolder(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("find binlog files: %w", err)
	}
	var names []string
	first := ""
	for _, e := range entries {
		base, number := fileNumber(e.Name())
		name := filepath.Join(path, e.Name())
		if number == 0 || e.Type()&fs.ModeType != 0 && e.Type()&fs.ModeSymlink == 0 {
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("find binlog files: %w", err)
		}
		err = magic(f)
		_ = f.Close()
		if errors.Is(err, errNoBinlog) {
			continue
		}
		if first == "" {
			first = base
		}
		if base != first {
			return nil, fmt.Errorf("the folder %s holds files of %s and of %s: name those to read one by one", path, first, base)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the folder %s holds no binlog files (such as binlog.000001)", path)
	}
	return names, nil
}

var errNoBinlog = errors.New("it is not a binlog: it does not begin with fe 62 69 6e")

// magic reads a file's first bytes, which say what it is.
func magic(f *os.File) error {
	head := make([]byte, len(replication.BinLogFileHeader))
	n, _ := f.ReadAt(head, 0) // a file that cannot be read, or is shorter, is no binlog
	for _, kind := range []struct {
		head []byte
		err  error
	}{
		{replication.BinLogFileHeader, nil},
		{[]byte{0xfd, 'b', 'i', 'n'}, errors.New("it is encrypted (binlog_encryption): read from the server, or decrypt it first (mysqlbinlog --read-from-remote-server --raw writes plain files)")},
		{[]byte{0x1f, 0x8b}, errors.New("it is compressed with gzip: unpack it first")},
		{[]byte{0x28, 0xb5, 0x2f, 0xfd}, errors.New("it is compressed with zstd: unpack it first")},
	} {
		if bytes.HasPrefix(head[:n], kind.head) {
			return kind.err
		}
	}
	return errNoBinlog
}

// newBinlogFile reads the beginning of a file.
func newBinlogFile(path string) (binlogFile, error) {
	f := binlogFile{path: path}
	f.base, f.number = fileNumber(filepath.Base(path))
	r, err := openFile(f)
	if err != nil {
		return f, err
	}
	defer r.close()
	f.size, f.modified = r.size, r.modified
	var format replication.FormatDescriptionEvent
	h, body, err := r.next(true)
	if err != nil || h.EventType != replication.FORMAT_DESCRIPTION_EVENT {
		return f, fmt.Errorf("it holds no whole event at its beginning: %w", errors.Join(err, errors.New("leave it out")))
	}
	if err := guard(func() error { return format.Decode(body) }); err != nil {
		return f, fmt.Errorf("read its format: %w", err)
	}
	f.begun = time.Unix(int64(h.Timestamp), 0).UTC()
	f.checksum = format.ChecksumAlgorithm == replication.BINLOG_CHECKSUM_ALG_CRC32
	f.server = Server{Flavor: mysql.MySQLFlavor, Version: format.ServerVersion}
	if strings.Contains(format.ServerVersion, "MariaDB") {
		f.server.Flavor = mysql.MariaDBFlavor
	}
	r.checksum = f.checksum
	for range 3 {
		h, body, err := r.next(true)
		if err != nil {
			return f, fmt.Errorf("read which GTIDs came before it: %w", err)
		}
		switch h.EventType {
		case replication.PREVIOUS_GTIDS_EVENT:
			f.before, err = previousGTIDs(body)
			return f, err
		case replication.MARIADB_GTID_LIST_EVENT:
			f.before, f.list, err = gtidList(body)
			return f, err
		}
	}
	return f, errors.New("it does not say which GTIDs came before it: it was written without GTIDs (gtid_mode=OFF)")
}

// previousGTIDs reads MySQL's set of what the files before hold. (go-mysql's own
// decoder loses the UUID of a set that has tagged GTIDs only; v1.16.0.)
func previousGTIDs(body []byte) (gtid.Set, error) {
	var set gtid.Set
	format, count, err := mysql.DecodeSid(body)
	if err != nil {
		return set, err
	}
	c := cursor{b: body}
	c.take(8)
	for i := 0; uint64(i) < uint64(count) && !c.bad; i++ {
		id, _ := uuid.FromBytes(append(make([]byte, 0, 16), c.take(16)...))
		name := id.String()
		if format == mysql.GtidFormatTagged {
			if tag := c.take(int(c.u8() >> 1)); len(tag) > 0 {
				name += ":" + string(tag)
			}
		}
		for n := c.uint(8); n > 0 && !c.bad; n-- {
			first, end := c.uint(8), c.uint(8) // the end is behind the last
			part, err := gtid.Parse(fmt.Sprintf("%s:%d-%d", name, first, end-1))
			if err != nil {
				return set, err
			}
			set.Union(part)
		}
	}
	if c.bad {
		return set, errTruncated
	}
	return set, nil
}

// gtidList reads MariaDB's list of the newest GTID by domain and server.
func gtidList(body []byte) (gtid.Set, written, error) {
	var set gtid.Set
	list := written{}
	c := cursor{b: body}
	for n := c.uint(4) & (1<<28 - 1); n > 0 && !c.bad; n-- {
		domain, server, sequence := c.uint(4), c.uint(4), c.uint(8)
		id := fmt.Sprintf("%d-%d-%d", domain, server, sequence)
		if err := set.Add(id); err != nil && !c.bad {
			return set, list, err
		}
		list.add(id)
	}
	if c.bad {
		return set, list, errTruncated
	}
	return set, list, nil
}
