package cache

import (
	"encoding/binary"
	"errors"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// bounds enclose the set of transactions that a snapshot shows. Nobody can ask a
// server for that set itself.
//
// To show a value to somebody who has seen a set of transactions, that set must be
// in least. To tell somebody who has seen the value what he has seen, it takes
// most: the value may show a transaction that is not in least, and a later value
// without it would be older.
type bounds struct {
	least gtid.Set // is all in the snapshot; empty where nothing is known
	most  gtid.Set // the snapshot shows nothing else; empty where nothing is known

	// returned is of the moment before the snapshot: all whose commit on this server
	// had returned. It is not stored with a value.
	returned gtid.Set
}

// unknown says that there is nothing to write down.
func (b bounds) unknown() bool { return b.least.Empty() && b.most.Empty() }

// marshal returns the length of least in binary form (a varint), least, and most
// to the end. A set of which nothing is known has no bytes.
func (b bounds) marshal() ([]byte, error) {
	least, err1 := setBytes(b.least)
	most, err2 := setBytes(b.most)
	if err1 != nil || err2 != nil || b.unknown() {
		return nil, errors.Join(err1, err2)
	}
	out := binary.AppendUvarint(nil, uint64(len(least)))
	return append(append(out, least...), most...), nil
}

func setBytes(s gtid.Set) ([]byte, error) {
	if s.Empty() {
		return nil, nil
	}
	return s.MarshalBinary()
}

func parseBounds(data []byte) (b bounds, ok bool) {
	if len(data) == 0 {
		return b, true
	}
	n, width := binary.Uvarint(data)
	if width <= 0 || n > uint64(len(data)-width) {
		return b, false
	}
	rest := data[width:]
	for _, part := range []struct {
		set  *gtid.Set
		data []byte
	}{{&b.least, rest[:n]}, {&b.most, rest[n:]}} {
		if len(part.data) > 0 && (part.set.UnmarshalBinary(part.data) != nil || part.set.Empty()) {
			return bounds{}, false
		}
	}
	return b, true
}
