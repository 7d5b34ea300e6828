package bus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// A block is the unit in which the embedded log writes records: those of one
// group commit, in pieces of about blockBytes, so that a reader needs one disk
// access for many records. bbolt checks only its own pages' structure, so each
// block carries a checksum.
//
//	version 1 byte · count uvarint · (length uvarint · data)* · CRC-32C 4 bytes
const (
	blockVersion = 1
	blockBytes   = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errBlock = errors.New("block is damaged")

// appendBlock encodes the first records of the list, at least one, up to about
// blockBytes, and returns the block and how many records it holds.
func appendBlock(dst []byte, records [][]byte) ([]byte, int) {
	n, size := 0, 0
	for n < len(records) && (n == 0 || size+len(records[n]) <= blockBytes) {
		size += len(records[n])
		n++
	}
	dst = slices.Grow(dst, size+n*binary.MaxVarintLen32+16) // once, not by doubling
	start := len(dst)
	dst = append(dst, blockVersion)
	dst = binary.AppendUvarint(dst, uint64(n))
	for _, r := range records[:n] {
		dst = binary.AppendUvarint(dst, uint64(len(r)))
		dst = append(dst, r...)
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli)), n
}

// blockCount returns the number of records in a block, without checking it.
func blockCount(block []byte) (int64, error) {
	if len(block) < 6 || block[0] != blockVersion {
		return 0, errBlock
	}
	n, size := binary.Uvarint(block[1:])
	if size <= 0 || n == 0 || n > uint64(len(block)) {
		return 0, errBlock
	}
	return int64(n), nil
}

// readBlock appends the records of a block from the offset on. base is the
// offset of the block's first record. The messages alias the block.
func readBlock(dst []pipeline.Message, block []byte, base, from int64) ([]pipeline.Message, error) {
	if len(block) < 6 {
		return dst, errBlock
	}
	body, sum := block[:len(block)-4], binary.LittleEndian.Uint32(block[len(block)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return dst, fmt.Errorf("%w: checksum differs", errBlock)
	}
	count, err := blockCount(block)
	if err != nil {
		return dst, err
	}
	_, size := binary.Uvarint(body[1:])
	rest := body[1+size:]
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
