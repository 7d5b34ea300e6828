package testenv

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the format's own checksum, over public certificates
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"unicode/utf16"
)

// trustStorePassword only guards the file's checksum; "changeit" is Java's custom.
const trustStorePassword = "changeit"

// trustStore writes the machine's certificate authorities in the form that Java reads (JKS), and returns its path.
func trustStore(dir string) (string, error) {
	const bundle = "/etc/ssl/certs/ca-certificates.crt"
	text, err := os.ReadFile(bundle)
	if err != nil {
		return "", fmt.Errorf("read the machine's certificate authorities: %w: install ca-certificates", err)
	}
	path := filepath.Join(dir, "cacerts.jks")
	return path, os.WriteFile(path, jks(text), 0o644)
}

// jks encodes trusted certificates: a magic number, version 2, entries, and a SHA-1 salted with the password.
func jks(bundle []byte) []byte {
	var certs [][]byte
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			break
		}
		certs = append(certs, block.Bytes)
	}
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.BigEndian, v) } // writing to memory cannot fail
	name := func(s string) { put(uint16(len(s))); b.WriteString(s) }
	put(uint32(0xFEEDFEED))
	put(uint32(2))
	put(uint32(len(certs)))
	for i, cert := range certs {
		put(uint32(2)) // a trusted certificate, not a key
		name(fmt.Sprintf("ca%d", i))
		put(uint64(0)) // made in 1970
		name("X.509")
		put(uint32(len(cert)))
		b.Write(cert)
	}
	sum := sha1.New() //nolint:gosec // see the import
	_ = binary.Write(sum, binary.BigEndian, utf16.Encode([]rune(trustStorePassword)))
	sum.Write([]byte("Mighty Aphrodite"))
	sum.Write(b.Bytes())
	return sum.Sum(b.Bytes())
}
