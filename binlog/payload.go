package binlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/klauspost/compress/zstd"
)

// payloadReader takes compressed transactions apart (MySQL's
// binlog_transaction_compression). go-mysql would inflate one whole and decode
// it whole: 3.8 MB from the wire became 466 MB of memory. This reads it as a
// stream, one event at a time; only the compressed form is in memory whole,
// because it is one packet.
type payloadReader struct {
	zstd *zstd.Decoder
	buf  []byte
}

// maxWindow bounds the memory of the decompression. The server compresses with
// windows of at most 8 MB at the levels that it accepts by default, 128 MB at
// the highest.
const maxWindow = 128 << 20

func (p *payloadReader) read(body []byte, fn func(*replication.EventHeader, []byte) error) error {
	stream, err := p.open(body)
	if err != nil {
		return fmt.Errorf("read a compressed transaction: %w", err)
	}
	for {
		var head [replication.EventHeaderSize]byte
		if _, err := io.ReadFull(stream, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a compressed transaction: %w", err)
		}
		h := headerOf(head[:])
		if h.EventSize < replication.EventHeaderSize {
			return fmt.Errorf("read a compressed transaction: an event of %d bytes", h.EventSize)
		}
		if err := p.body(stream, int(h.EventSize)-replication.EventHeaderSize); err != nil {
			return fmt.Errorf("read a compressed transaction: %w", err)
		}
		if err := fn(&h, p.buf); err != nil {
			return err
		}
	}
}

// body reads n bytes into the buffer, which grows only as bytes really come.
func (p *payloadReader) body(r io.Reader, n int) error {
	p.buf = p.buf[:0]
	for len(p.buf) < n {
		step := min(n-len(p.buf), max(cap(p.buf)-len(p.buf), 64<<10))
		at := len(p.buf)
		p.buf = append(p.buf, make([]byte, step)...)
		if _, err := io.ReadFull(r, p.buf[at:]); err != nil {
			return err
		}
	}
	return nil
}

// Fields of the event's header.
const (
	payloadEnd             = 0
	payloadCompressionType = 2
)

// Compression types.
const (
	compressionZSTD = 0
	compressionNone = 255
)

func (p *payloadReader) open(body []byte) (io.Reader, error) {
	c := cursor{b: body}
	compression := uint64(compressionNone)
	for {
		field := c.lenenc()
		if c.bad {
			return nil, errTruncated
		}
		if field == payloadEnd {
			break
		}
		// The values are length-encoded integers with their own length before.
		v := cursor{b: c.str()}
		if field == payloadCompressionType {
			compression = v.lenenc()
		}
		if v.bad || c.bad {
			return nil, errTruncated
		}
	}
	switch compression {
	case compressionNone:
		return bytes.NewReader(c.b), nil
	case compressionZSTD:
	default:
		return nil, fmt.Errorf("compression type %d is unknown", compression)
	}
	if p.zstd == nil {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		p.zstd = z
	}
	return p.zstd, p.zstd.Reset(bytes.NewReader(c.b))
}
