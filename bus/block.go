package bus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/s2"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// A block is the unit in which the embedded log writes records: those of one
// group commit, in pieces of about blockBytes, so that a reader needs one disk
// access for many records. Events are alike, so compression makes blocks a
// fraction of that. bbolt checks only its own pages' structure, so each block
// carries a checksum.
//
//	version 1 byte · count uvarint · S2((length uvarint · data)*) · CRC-32C 4 bytes
const (
	blockVersion = 1
	blockBytes   = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errBlock = errors.New("block is damaged")

// encodeBlock encodes the first records of the list, at least one, up to about
// blockBytes. It returns the block, how many records it holds, and the buffer,
// grown, for the next call.
func encodeBlock(buf []byte, records [][]byte) (block []byte, n int, grown []byte) {
	buf = buf[:0]
	for n < len(records) && (n == 0 || len(buf)+len(records[n]) <= blockBytes) {
		buf = binary.AppendUvarint(buf, uint64(len(records[n])))
		buf = append(buf, records[n]...)
		n++
	}
	block = make([]byte, 1+binary.MaxVarintLen64+s2.MaxEncodedLen(len(buf))+4)
	block[0] = blockVersion
	head := 1 + binary.PutUvarint(block[1:], uint64(n))
	body := s2.Encode(block[head:len(block)-4], buf)
	block = block[:head+len(body)]
	return binary.LittleEndian.AppendUint32(block, crc32.Checksum(block, castagnoli)), n, buf
}

// blockCount returns the number of records in a block and where its body
// begins, without checking the rest.
func blockCount(block []byte) (n int64, body int, err error) {
	if len(block) < 6 || block[0] != blockVersion {
		return 0, 0, errBlock
	}
	count, size := binary.Uvarint(block[1:])
	if size <= 0 || count == 0 || count > 1<<32 {
		return 0, 0, errBlock
	}
	return int64(count), 1 + size, nil
}

// readBlock appends the records of a block from the offset on. base is the
// offset of the block's first record. The messages do not alias the block.
func readBlock(dst []pipeline.Message, block []byte, base, from int64) ([]pipeline.Message, error) {
	count, head, err := blockCount(block)
	if err != nil || head > len(block)-4 {
		return dst, errBlock
	}
	body, sum := block[:len(block)-4], binary.LittleEndian.Uint32(block[len(block)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return dst, fmt.Errorf("%w: checksum differs", errBlock)
	}
	rest, err := s2.Decode(nil, body[head:])
	if err != nil {
		return dst, fmt.Errorf("%w: %w", errBlock, err)
	}
	for offset := base; offset < base+count; offset++ {
		length, size := binary.Uvarint(rest)
		if size <= 0 || length > uint64(len(rest)-size) {
			return dst, errBlock
		}
		end := size + int(length)
		if offset >= from {
			dst = append(dst, pipeline.Message{Offset: offset, Data: rest[size:end:end]})
		}
		rest = rest[end:]
	}
	return dst, nil
}
