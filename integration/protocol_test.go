package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

// This file is a second implementation of the key protocol of docs/schema.md, written from that page. It shares no code
// with package keys.

// image is one row image in canonical text; a column that is not in the map is NULL.
type image map[string]string

// rule is one rule of the tests' key schema. Its YAML twin is in schemaYAML.
type rule struct {
	name   string
	tables func(db, table string) bool
	// parts of the key: literal text, or "@column" or "@column|filter".
	parts   []string
	null    string   // "" makes no key
	columns []string // key columns included
	when    func(image) bool
}

// keysOf returns the keys that a row change makes stale; before is nil for an insert, after for a delete.
func (r *rule) keysOf(before, after image) (out []string) {
	useBefore, useAfter := before != nil, after != nil
	touched := !useBefore || !useAfter || r.columns == nil
	for _, c := range r.columns {
		x, xok := before[c]
		y, yok := after[c]
		touched = touched || x != y || xok != yok
	}
	if r.when != nil {
		useBefore = useBefore && r.when(before)
		useAfter = useAfter && r.when(after)
		touched = touched || useBefore != useAfter
	}
	if !touched {
		return nil
	}
	if useBefore {
		if k, ok := r.build(before); ok {
			out = append(out, k)
		}
	}
	if useAfter {
		if k, ok := r.build(after); ok {
			out = append(out, k)
		}
	}
	return out
}

func (r *rule) build(img image) (string, bool) {
	key := ""
	for i, p := range r.parts {
		spec, isColumn := strings.CutPrefix(p, "@")
		if !isColumn {
			key += p
			continue
		}
		column, filter, _ := strings.Cut(spec, "|")
		v, ok := img[column]
		if !ok {
			if r.null == "" {
				return "", false
			}
			key += r.null
			continue
		}
		switch filter {
		case "lower":
			v = strings.ToLower(v)
		case "date":
			v = v[:10]
		case "trim":
			v = strings.TrimRight(v, " ")
		}
		if v == "" && strings.HasSuffix(r.parts[i-1], "{") && strings.HasPrefix(r.parts[i+1], "}") {
			key += "%-"
		} else {
			key += encodeValue(v)
		}
	}
	return key, true
}

// encodeValue percent-encodes all that is not certainly harmless.
func encodeValue(text string) string {
	var b strings.Builder
	for rest := text; rest != ""; {
		r, n := utf8.DecodeRuneInString(rest)
		piece := rest[:n]
		rest = rest[n:]
		if keepRune(r, n) {
			b.WriteString(piece)
			continue
		}
		for i := range len(piece) {
			fmt.Fprintf(&b, "%%%02X", piece[i])
		}
	}
	if b.Len() > 200 {
		sum := sha256.Sum256([]byte(text))
		return "%~" + hex.EncodeToString(sum[:])
	}
	return b.String()
}

func keepRune(r rune, size int) bool {
	if r < 0x80 {
		return strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~@+", r)
	}
	nonCharacter := r >= 0xFDD0 && r <= 0xFDEF || r&0xFFFF == 0xFFFE || r&0xFFFF == 0xFFFF
	illFormed := r == utf8.RuneError && size == 1
	return r >= 0xA0 && !nonCharacter && !illFormed
}
