package cache

import (
	"crypto/rand"
	"encoding/binary"
)

// What a key can hold (docs/cache-protocol.md). The zero byte at the beginning is
// in no text, so that a program which reads such a key with a plain GET can tell.
const (
	leasePrefix    = "\x00dt1L" // then a token
	valuePrefix    = "\x00dt1V" // then a header, then the application's bytes
	negativePrefix = "\x00dt1N" // then a header
)

// token is what makes a lease one of a kind.
type token [16]byte

func newToken() (t token) {
	_, _ = rand.Read(t[:]) // never fails (crypto/rand)
	return t
}

func (t token) lease() []byte { return append([]byte(leasePrefix), t[:]...) }

type kind int

const (
	absent kind = iota
	leased
	valued
	negative
	foreign // not of this protocol
)

// entry is what a key was found to hold.
type entry struct {
	kind  kind
	token token  // of a lease
	known bounds // of what a value, or that there is none, was made from
	data  []byte // of a value
}

// parseEntry reads a key's bytes, to which the entry's data points. What it cannot
// read in full is foreign.
func parseEntry(b []byte) entry {
	bad := entry{kind: foreign}
	if len(b) < len(leasePrefix) {
		return bad
	}
	e, rest := entry{}, b[len(leasePrefix):]
	switch string(b[:len(leasePrefix)]) {
	case leasePrefix:
		if len(rest) != len(e.token) {
			return bad
		}
		e.kind, e.token = leased, token(rest)
		return e
	case valuePrefix:
		e.kind = valued
	case negativePrefix:
		e.kind = negative
	default:
		return bad
	}
	n, width := binary.Uvarint(rest)
	if width <= 0 || n > uint64(len(rest)-width) {
		return bad
	}
	header, data := rest[width:width+int(n)], rest[width+int(n):]
	known, ok := parseBounds(header)
	if !ok || e.kind == negative && len(data) > 0 {
		return bad
	}
	e.known = known
	if e.kind == valued {
		e.data = data
	}
	return e
}

// marshal returns the bytes of a value or a negative entry.
func (e entry) marshal() ([]byte, error) {
	header, err := e.known.marshal()
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(valuePrefix)+binary.MaxVarintLen64+len(header)+len(e.data))
	if e.kind == negative {
		b = append(b, negativePrefix...)
	} else {
		b = append(b, valuePrefix...)
	}
	b = binary.AppendUvarint(b, uint64(len(header)))
	return append(append(b, header...), e.data...), nil
}

// value returns what a Get gives its caller. It shares the entry's data. Its token is
// "" where nothing is known, and also where the set is too long for one.
func (e entry) value() Value {
	// A set too long for a token is rare, and means only that less is known.
	seen, _ := seenOf(e.known.most)
	if e.kind != valued {
		return Value{Token: seen}
	}
	return Value{Data: e.data, Found: true, Token: seen}
}
