package binlog

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// errCutOff says that a file ends inside an event, as one does that was copied
// while the server wrote it, or whose server or machine died.
var errCutOff = errors.New("is cut off")

// fileReader reads the events of a file one by one, in flat memory: go-mysql's
// parser copies each event twice and cannot leave one out without reading it.
type fileReader struct {
	f        *os.File
	r        *bufio.Reader
	at, size int64     // where the next event begins; the file's size when it was opened
	modified time.Time // then
	checksum bool
	buf      payloadReader // for its buffer
}

func openFile(file binlogFile) (*fileReader, error) {
	f, err := os.Open(file.path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = magic(f)
	}
	start := int64(len(replication.BinLogFileHeader))
	if err == nil {
		_, err = f.Seek(start, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &fileReader{f: f, r: bufio.NewReaderSize(f, 64<<10), at: start, size: info.Size(), modified: info.ModTime(), checksum: file.checksum}, nil
}

func (r *fileReader) close() { _ = r.f.Close() }

// next returns the next event; io.EOF at the end of the file, errCutOff where
// that is inside an event. The body is good until the next call, and nil for an
// event of rows where those are not wanted.
func (r *fileReader) next(rows bool) (h replication.EventHeader, body []byte, err error) {
	if r.at >= r.size {
		return h, nil, io.EOF
	}
	var head [replication.EventHeaderSize]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return h, nil, r.cut(err)
	}
	h = headerOf(head[:])
	n := int64(h.EventSize) - replication.EventHeaderSize
	// A machine that died may leave zeros at a file's end.
	if n < 0 || r.at+int64(h.EventSize) > r.size {
		return h, nil, errCutOff
	}
	if !rows && ofRows(h.EventType) {
		err = r.skip(n)
	} else {
		body, err = r.body(&h, head[:], int(n))
	}
	r.at += int64(h.EventSize)
	return h, body, err
}

// cut tells a file that ends from one that cannot be read.
func (r *fileReader) cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errCutOff
	}
	return err
}

// ofRows says whether an event cannot begin or end a transaction.
func ofRows(t replication.EventType) bool {
	_, rows := rowsKinds[t]
	return rows || t == replication.TABLE_MAP_EVENT || t == replication.ROWS_QUERY_EVENT || t == replication.MARIADB_ANNOTATE_ROWS_EVENT ||
		t == replication.TRANSACTION_PAYLOAD_EVENT
}

func (r *fileReader) skip(n int64) error {
	if n <= int64(r.r.Buffered()) {
		_, err := r.r.Discard(int(n))
		return err
	}
	_, err := r.f.Seek(n-int64(r.r.Buffered()), io.SeekCurrent)
	r.r.Reset(r.f)
	return err
}

func (r *fileReader) body(h *replication.EventHeader, head []byte, n int) ([]byte, error) {
	if err := r.buf.body(r.r, n); err != nil {
		return nil, r.cut(err)
	}
	body := r.buf.buf
	if !r.checksum {
		return body, nil
	}
	if n < 4 {
		return nil, fmt.Errorf("%w: it is damaged at %d: an event of %d bytes", pipeline.ErrFatal, r.at, h.EventSize)
	}
	if h.EventType == replication.FORMAT_DESCRIPTION_EVENT {
		// Set while the server writes the file, and not part of the sum.
		head[17] &^= byte(replication.LOG_EVENT_BINLOG_IN_USE_F)
	}
	content := body[:n-4]
	sum := crc32.Update(crc32.ChecksumIEEE(head), crc32.IEEETable, content)
	if sum != binary.LittleEndian.Uint32(body[n-4:]) {
		return nil, fmt.Errorf("%w: it is damaged at %d: the checksum is wrong; use another copy, or leave it out and replay the tables", pipeline.ErrFatal, r.at)
	}
	return content, nil
}

// each calls fn for the events of the file in order, as a stream from the server
// brings them. It returns where the file is cut off, "" if it is whole.
func (f binlogFile) each(ctx context.Context, rows bool, fn func(*replication.BinlogEvent) error) (cut string, err error) {
	r, err := openFile(f)
	if err != nil {
		return "", fmt.Errorf("binlog file %s: %w", f.path, err)
	}
	defer r.close()
	err = fn(&replication.BinlogEvent{
		Header: &replication.EventHeader{EventType: replication.ROTATE_EVENT},
		Event:  &replication.RotateEvent{Position: uint64(r.at), NextLogName: []byte(filepath.Base(f.path))},
	})
	for err == nil {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		at := r.at
		h, body, err := r.next(rows)
		switch {
		case errors.Is(err, io.EOF):
			return "", nil
		case errors.Is(err, errCutOff):
			return fmt.Sprintf("is cut off at %d", at), nil
		case err != nil:
			return "", fmt.Errorf("binlog file %s: %w", f.path, err)
		case h.EventType == replication.MARIADB_START_ENCRYPTION_EVENT:
			return "", fmt.Errorf("%w: binlog file %s: it is encrypted (encrypt_binlog): read from the server", pipeline.ErrFatal, f.path)
		case h.EventType == replication.ROTATE_EVENT: // the file's end
			continue
		}
		h.LogPos = 0 // it has 32 bits, and MariaDB leaves it out: the sizes tell
		if err := fn(&replication.BinlogEvent{Header: &h, Event: &replication.GenericEvent{Data: body}}); err != nil {
			return "", err
		}
	}
	return "", err
}

// transactions finds the file's whole transactions. It reads no rows.
func (f binlogFile) transactions(ctx context.Context, cfg Config) (in contents, err error) {
	in.newest = written{}
	d := newDecoder(ctx, cfg, f.server, func(context.Context, pipeline.Batch) error { return nil })
	d.asm.ended = func(t pipeline.Txn) {
		if bad := in.holds.Add(t.GTID); bad != nil {
			err = bad // cannot be: it is made of the event's numbers
		}
		if t.CommittedAt.After(in.last) {
			in.last = t.CommittedAt
		}
		if f.server.MariaDB() {
			in.newest.add(t.GTID)
		}
	}
	var failed error
	in.cut, failed = f.each(ctx, false, func(e *replication.BinlogEvent) error {
		switch {
		case e.Header.EventType == replication.TRANSACTION_PAYLOAD_EVENT: // a whole transaction
			return d.asm.end(ctx)
		case ofRows(e.Header.EventType):
			return nil
		}
		return d.HandleEvent(e)
	})
	return in, errors.Join(failed, err)
}
