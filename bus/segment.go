package bus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// segment is one file of the embedded log: a bbolt file whose keys are the
// offsets of blocks. A file per segment gives disk space back when the log's
// front is dropped, which one bbolt file never does.
type segment struct {
	base int64 // offset of the first record, also the file's name
	path string

	db      *bolt.DB // nil while closed
	end     int64    // offset after the last record; known once opened
	bytes   int64    // size of its blocks; of the file while closed
	created time.Time
	written time.Time // the last append
}

const segmentSuffix = ".seg"

var recordsBucket = []byte("records")

func segmentPath(dir string, base int64) string {
	return filepath.Join(dir, fmt.Sprintf("%020d%s", base, segmentSuffix))
}

// createSegment makes an empty segment file. It is complete and durable before
// it gets its name, so a crash leaves no half-made segment behind.
func createSegment(dir string, base int64) (*segment, error) {
	path := segmentPath(dir, base)
	temp := path + ".tmp"
	if err := os.RemoveAll(temp); err != nil {
		return nil, err
	}
	db, err := openBolt(temp, nil)
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket(recordsBucket)
		return err
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, path); err != nil {
		return nil, err
	}
	if err := syncDir(dir); err != nil {
		return nil, err
	}
	s := &segment{base: base, path: path, created: time.Now()}
	return s, s.open(false)
}

// openBolt opens a bbolt file. A file that is in use elsewhere is an error
// after a moment, and so is one that was cut off: reading its missing pages
// through the memory map would kill the process.
func openBolt(path string, options *bolt.Options) (*bolt.DB, error) {
	if options == nil {
		options = &bolt.Options{}
	}
	options.Timeout = 200 * time.Millisecond
	options.FreelistType = bolt.FreelistMapType
	db, err := bolt.Open(path, 0o600, options)
	if err != nil {
		return nil, err
	}
	err = db.View(func(tx *bolt.Tx) error {
		info, err := os.Stat(path)
		if err == nil && info.Size() < tx.Size() {
			err = fmt.Errorf("file has %d bytes of %d", info.Size(), tx.Size())
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// open opens the file and finds its end.
func (s *segment) open(readOnly bool) error {
	db, err := openBolt(s.path, &bolt.Options{ReadOnly: readOnly})
	if err != nil {
		return fmt.Errorf("open segment %s: %w", s.path, err)
	}
	s.end = s.base
	err = db.View(func(tx *bolt.Tx) error {
		records := tx.Bucket(recordsBucket)
		if records == nil {
			return errors.New("no records bucket in it")
		}
		if k, block := records.Cursor().Last(); k != nil {
			n, _, err := blockCount(block)
			s.end = blockKey(k) + n
			return err
		}
		return nil
	})
	if err != nil {
		return errors.Join(fmt.Errorf("open segment %s: %w", s.path, err), db.Close())
	}
	s.db = db
	return nil
}

func (s *segment) close() error {
	if s.db == nil {
		return nil
	}
	db := s.db
	s.db = nil
	return db.Close()
}

func blockKey(k []byte) int64 { return int64(binary.BigEndian.Uint64(k)) }

// append writes records at the segment's end, which is given, and returns when
// they are on disk, with the new end and the bytes they took. After an error
// none of them is in the segment; it may be tried again.
func (s *segment) append(at int64, records [][]byte) (end, size int64, err error) {
	end = at
	err = s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(recordsBucket)
		b.FillPercent = 1 // only ever appended to
		var buf []byte
		for len(records) > 0 {
			var block []byte
			var n int
			block, n, buf = encodeBlock(buf, records)
			if err := b.Put(binary.BigEndian.AppendUint64(nil, uint64(end)), block); err != nil {
				return err
			}
			records = records[n:]
			end += int64(n)
			size += int64(len(block))
		}
		return nil
	})
	return end, size, err
}

// read returns records from the offset on, which the segment must hold, until
// they exceed maxBytes. The messages are the caller's.
func (s *segment) read(from int64, maxBytes int) (messages []pipeline.Message, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(recordsBucket).Cursor()
		k, block := c.Seek(binary.BigEndian.AppendUint64(nil, uint64(from)))
		switch {
		case k == nil:
			k, block = c.Last() // the offset is inside the last block
		case blockKey(k) != from:
			k, block = c.Prev()
		}
		for size := 0; k != nil && size < maxBytes; k, block = c.Next() {
			before := len(messages)
			messages, err = readBlock(messages, block, blockKey(k), from)
			if err != nil {
				messages = messages[:before]
				return fmt.Errorf("block %d of segment %s: %w", blockKey(k), s.path, err)
			}
			for _, m := range messages[before:] {
				size += len(m.Data)
			}
		}
		return nil
	})
	return messages, err
}
