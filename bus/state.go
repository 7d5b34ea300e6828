package bus

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// state is the embedded log's small facts: which incarnation it is, and how far
// consumers and tailers have come. It is one bbolt file: each change is atomic,
// and works on a full disk as long as the file has free pages. The file's lock
// is the folder's lock.
type state struct {
	db          *bolt.DB
	incarnation string
}

// storedCursors and storedPosition name the incarnation and the synced end at
// which they were stored, so that a log that lost its tail is noticed at open,
// before new records take the lost ones' offsets.
type storedCursors struct {
	Incarnation string    `json:"incarnation"`
	End         int64     `json:"end"`
	First       int64     `json:"first"`
	Second      int64     `json:"second"`
	Marks       string    `json:"marks,omitempty"`
	At          time.Time `json:"at"` // by this machine's clock; for retention only
}

type storedPosition struct {
	Incarnation string `json:"incarnation"`
	End         int64  `json:"end"`
	Position    string `json:"position"`
	Pending     string `json:"pending,omitempty"`
	Prepared    string `json:"prepared,omitempty"`
}

var (
	cursorsBucket   = []byte("cursors")   // by consumer
	positionsBucket = []byte("positions") // by source
	logBucket       = []byte("log")
	incarnationKey  = []byte("incarnation")
)

// openState opens the state of a folder, creating it if needed.
func openState(dir string) (*state, error) {
	path := filepath.Join(dir, "state.db")
	db, err := openBolt(path, nil)
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("the log in %s is in use by another process; stop that one, or give this one a folder of its own", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s := &state{db: db}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{cursorsBucket, positionsBucket, logBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		s.incarnation = string(tx.Bucket(logBucket).Get(incarnationKey))
		if s.incarnation == "" {
			return s.renew(tx)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	return s, syncDir(dir)
}

func (s *state) renew(tx *bolt.Tx) error {
	s.incarnation = rand.Text()
	return tx.Bucket(logBucket).Put(incarnationKey, []byte(s.incarnation))
}

func (s *state) close() error { return s.db.Close() }

// check compares what is stored with the log's end. Where something was stored
// at a later end, the log has lost its tail: it becomes a new incarnation, so
// that all that is stored no longer fits. It returns the reason, or "".
func (s *state) check(end int64) (reason string, err error) {
	known := int64(0)
	err = s.db.View(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{cursorsBucket, positionsBucket} {
			err := tx.Bucket(name).ForEach(func(_, v []byte) error {
				var at struct {
					Incarnation   string
					End           int64
					First, Second int64
				}
				err := json.Unmarshal(v, &at)
				if at.Incarnation == s.incarnation {
					known = max(known, at.End, at.First, at.Second)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || known <= end {
		return "", err
	}
	reason = fmt.Sprintf("the log ends at offset %d, but had reached %d: it lost its tail", end, known)
	return reason, s.db.Update(s.renew)
}

func get[T any](s *state, bucket []byte, key string) (v T, ok bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		data := tx.Bucket(bucket).Get([]byte(key))
		ok = data != nil
		if !ok {
			return nil
		}
		return json.Unmarshal(data, &v)
	})
	return v, ok, err
}

func put[T any](s *state, bucket []byte, key string, v T) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Put([]byte(key), data) })
}

// lowest returns the lowest cursor of the consumers that run now or stored one
// lately; 0 where one of them has stored none, or nobody has ever stored one.
func (s *state) lowest(running []string, lately time.Duration) (int64, error) {
	low := int64(math.MaxInt64)
	err := s.db.View(func(tx *bolt.Tx) error {
		cursors := tx.Bucket(cursorsBucket)
		for _, name := range running {
			if cursors.Get([]byte(name)) == nil {
				low = 0
			}
		}
		return cursors.ForEach(func(k, v []byte) error {
			var c storedCursors
			if err := json.Unmarshal(v, &c); err != nil {
				return err
			}
			if slices.Contains(running, string(k)) || time.Since(c.At) < lately {
				low = min(low, c.First, c.Second)
				if c.Incarnation != s.incarnation {
					low = 0
				}
			}
			return nil
		})
	})
	if low == math.MaxInt64 {
		low = 0
	}
	return low, err
}
