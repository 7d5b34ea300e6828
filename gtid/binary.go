package gtid

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// binaryVersion is the first byte of a set in binary form.
const binaryVersion = 1

// errBinary says that bytes are not a set in binary form.
var errBinary = errors.New("not a GTID set in binary form")

// AppendBinary appends the set's compact form, which any language can write and
// read. Numbers are unsigned LEB128 ("varint"). A byte 1 is followed by the parts
// in the order of their text ("uuid", "uuid:tag", or the domain), each as
//
//	MySQL:   1 + the tag's length, the UUID's 16 bytes, the tag,
//	         the number of intervals, and for each interval
//	         its first number less the last one of the interval before (or less 0),
//	         and how many more follow the first
//	MariaDB: 0, the domain, the server, the sequence number
//
// A set has one such form only. The empty set is the byte 1.
func (s Set) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, binaryVersion)
	for _, p := range s.all() {
		if p.server != "" {
			domain, err1 := strconv.ParseUint(p.key, 10, 64)
			server, err2 := strconv.ParseUint(p.server, 10, 64)
			if err := errors.Join(err1, err2); err != nil {
				return nil, fmt.Errorf("write a GTID set: %w", err)
			}
			b = binary.AppendUvarint(append(b, 0), domain)
			b = binary.AppendUvarint(b, server)
			b = binary.AppendUvarint(b, uint64(p.spans[len(p.spans)-1].last))
			continue
		}
		uuid, tag, _ := strings.Cut(p.key, ":")
		id, err := hex.DecodeString(strings.ReplaceAll(uuid, "-", ""))
		if err != nil || len(id) != 16 {
			return nil, fmt.Errorf("write a GTID set: %q is not a UUID", uuid)
		}
		b = append(b, byte(1+len(tag)))
		b = append(append(b, id...), tag...)
		b = binary.AppendUvarint(b, uint64(len(p.spans)))
		end := int64(0)
		for _, sp := range p.spans {
			b = binary.AppendUvarint(b, uint64(sp.first-end))
			b = binary.AppendUvarint(b, uint64(sp.last-sp.first))
			end = sp.last
		}
	}
	return b, nil
}

// MarshalBinary returns what AppendBinary appends.
func (s Set) MarshalBinary() ([]byte, error) { return s.AppendBinary(nil) }

// UnmarshalBinary reads what AppendBinary wrote, and nothing else: bytes from a
// stranger need no more than it to be checked. It keeps no reference to b. The
// work and the memory are proportional to len(b).
func (s *Set) UnmarshalBinary(b []byte) error {
	if len(b) == 0 || b[0] != binaryVersion {
		return errBinary
	}
	r := binaryReader{rest: b[1:]}
	var parts []part
	for len(r.rest) > 0 && !r.bad {
		p := r.part()
		if len(parts) > 0 && p.key <= parts[len(parts)-1].key {
			return errBinary
		}
		parts = append(parts, p)
	}
	if r.bad {
		return errBinary
	}
	*s = Set{parts: parts}
	return nil
}

type binaryReader struct {
	rest []byte
	bad  bool
}

func (r *binaryReader) part() part {
	head := r.bytes(1)
	switch {
	case r.bad:
		return part{}
	case head[0] == 0:
		domain, server, seq := r.number(0), r.number(0), r.number(1)
		p := part{key: strconv.FormatInt(domain, 10), server: strconv.FormatInt(server, 10), spans: []span{{1, seq}}}
		r.bad = r.bad || !validID(p.key) || !validID(p.server)
		return p
	}
	id, tag := r.bytes(16), string(r.bytes(int(head[0])-1))
	if r.bad || tag != "" && (!validTag(tag) || tag != strings.ToLower(tag)) {
		r.bad = true
		return part{}
	}
	x := hex.EncodeToString(id)
	p := part{key: x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]}
	if tag != "" {
		p.key += ":" + tag
	}
	end, least := int64(0), int64(1)
	for n := r.number(1); n > 0 && !r.bad; n-- {
		first, more := r.number(least), r.number(0)
		if first > maxNumber-end || more > maxNumber-end-first {
			r.bad = true
			break
		}
		first += end
		end, least = first+more, 2
		p.spans = append(p.spans, span{first, end})
	}
	return p
}

// number reads a varint in its shortest form that is at least least.
func (r *binaryReader) number(least int64) int64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > maxNumber || int64(v) < least || n > 1 && r.rest[n-1] == 0 {
		r.bad, r.rest = true, nil
		return least
	}
	r.rest = r.rest[n:]
	return int64(v)
}

func (r *binaryReader) bytes(n int) []byte {
	if n > len(r.rest) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}
