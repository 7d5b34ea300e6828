package binlog

import (
	"encoding/binary"
	"errors"
)

var errTruncated = errors.New("the event ends before its content does")

// cursor reads an event's body. Reading past the end gives zero values and sets
// bad, so that a damaged event is an error and never a panic.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad, c.b = true, nil
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

func (c *cursor) u8() byte {
	if v := c.take(1); v != nil {
		return v[0]
	}
	return 0
}

// uint reads an unsigned little-endian integer of n bytes, n ≤ 8.
func (c *cursor) uint(n int) uint64 { return littleEndian(c.take(n)) }

// lenenc reads a length-encoded integer, as the client protocol has it.
func (c *cursor) lenenc() uint64 {
	switch b := c.u8(); b {
	case 0xfc:
		return c.uint(2)
	case 0xfd:
		return c.uint(3)
	case 0xfe:
		return c.uint(8)
	case 0xfb, 0xff: // NULL and an error marker: neither is a length
		c.bad = true
		return 0
	default:
		return uint64(b)
	}
}

// count reads a length-encoded integer that counts things of at least one byte
// each, so that it can be no more than what is left.
func (c *cursor) count() int {
	n := c.lenenc()
	if n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return 0
	}
	return int(n)
}

// str reads a length-encoded string.
func (c *cursor) str() []byte { return c.take(c.count()) }

func littleEndian(b []byte) uint64 {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(b))
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	case 8:
		return binary.LittleEndian.Uint64(b)
	}
	var v uint64
	for i := len(b) - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v
}

func bigEndian(b []byte) uint64 {
	var v uint64
	for _, x := range b {
		v = v<<8 | uint64(x)
	}
	return v
}
