package binlog

import (
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
)

// transcoder appends the UTF-8 form of stored text to dst; false if the bytes
// are not text in its character set.
type transcoder func(dst, src []byte) ([]byte, bool)

// transcoders are the character sets whose text becomes UTF-8 exactly as the
// server itself would convert it: TestTranscodersAgreeWithServer compares every
// one- and two-byte code. A character that MySQL and our tables see differently
// would give a key that no application builds, so a character set that is not
// here makes the whole table stale instead. Left out for that reason are big5,
// cp866, eucjpms, greek, hebrew and koi8u, whose tables in golang.org/x/text
// differ from MySQL 9.7's in some characters.
var transcoders = map[string]transcoder{
	"ascii":   asciiText,
	"utf8mb3": utf8Text,
	"utf8mb4": utf8Text,
	"ucs2":    func(dst, src []byte) ([]byte, bool) { return utf16Text(dst, src, binary.BigEndian, false) },
	"utf16":   func(dst, src []byte) ([]byte, bool) { return utf16Text(dst, src, binary.BigEndian, true) },
	"utf16le": func(dst, src []byte) ([]byte, bool) { return utf16Text(dst, src, binary.LittleEndian, true) },
	"utf32":   utf32Text,
	"latin1":  single(charmap.Windows1252),
	"latin2":  single(charmap.ISO8859_2),
	"latin5":  single(charmap.ISO8859_9),
	"latin7":  single(charmap.ISO8859_13),
	"cp1250":  single(charmap.Windows1250),
	"cp1251":  single(charmap.Windows1251),
	"cp1256":  single(charmap.Windows1256),
	"cp1257":  single(charmap.Windows1257),
	"cp850":   single(charmap.CodePage850),
	"cp852":   single(charmap.CodePage852),
	"koi8r":   single(charmap.KOI8R),
	"gbk":     multi(simplifiedchinese.GBK),
	"euckr":   multi(korean.EUCKR),
	"cp932":   multi(japanese.ShiftJIS),
}

// charsetKnown says whether text columns of a MySQL character set can be turned
// into key text.
func charsetKnown(name string) bool {
	if name == "utf8" {
		name = "utf8mb3"
	}
	_, ok := transcoders[name]
	return ok || name == "binary"
}

func asciiText(dst, src []byte) ([]byte, bool) {
	for _, b := range src {
		if b >= 0x80 {
			return dst, false
		}
	}
	return append(dst, src...), true
}

func utf8Text(dst, src []byte) ([]byte, bool) {
	if !utf8.Valid(src) {
		return dst, false
	}
	return append(dst, src...), true
}

func utf16Text(dst, src []byte, order binary.ByteOrder, surrogates bool) ([]byte, bool) {
	if len(src)%2 != 0 {
		return dst, false
	}
	for i := 0; i < len(src); i += 2 {
		r := rune(order.Uint16(src[i:]))
		if utf16.IsSurrogate(r) {
			if !surrogates || i+4 > len(src) {
				return dst, false
			}
			i += 2
			if r = utf16.DecodeRune(r, rune(order.Uint16(src[i:]))); r == utf8.RuneError {
				return dst, false
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst, true
}

func utf32Text(dst, src []byte) ([]byte, bool) {
	if len(src)%4 != 0 {
		return dst, false
	}
	for i := 0; i < len(src); i += 4 {
		r := binary.BigEndian.Uint32(src[i:])
		if r > utf8.MaxRune || !utf8.ValidRune(rune(r)) {
			return dst, false
		}
		dst = utf8.AppendRune(dst, rune(r))
	}
	return dst, true
}

// single transcodes a character set of one byte per character.
func single(m *charmap.Charmap) transcoder {
	return func(dst, src []byte) ([]byte, bool) {
		for _, b := range src {
			r := m.DecodeByte(b)
			if r == utf8.RuneError {
				return dst, false
			}
			dst = utf8.AppendRune(dst, r)
		}
		return dst, true
	}
}

// multi transcodes a character set of several bytes per character.
func multi(e encoding.Encoding) transcoder {
	return func(dst, src []byte) ([]byte, bool) {
		if out, ok := asciiText(dst, src); ok {
			return out, true
		}
		text, err := e.NewDecoder().Bytes(src)
		if err != nil {
			return dst, false
		}
		for _, r := range string(text) {
			if r == utf8.RuneError {
				return dst, false
			}
		}
		return append(dst, text...), true
	}
}

const collationBinary = 63

// span is a range of collation ids.
type collationRange struct {
	from, to uint64
	charset  string
}

// The collation ids of MySQL 5.7 to 9.7 and MariaDB 10.5 to 11.8, as
// information_schema.collations lists them (TestCollationsAgreeWithServer).
var collationRanges = []collationRange{
	{2, 2, "latin2"}, {9, 9, "latin2"}, {21, 21, "latin2"}, {27, 27, "latin2"}, {77, 77, "latin2"},
	{4, 4, "cp850"}, {80, 80, "cp850"},
	{5, 5, "latin1"}, {8, 8, "latin1"}, {15, 15, "latin1"}, {31, 31, "latin1"}, {47, 49, "latin1"}, {94, 94, "latin1"},
	{7, 7, "koi8r"}, {74, 74, "koi8r"},
	{11, 11, "ascii"}, {65, 65, "ascii"},
	{14, 14, "cp1251"}, {23, 23, "cp1251"}, {50, 52, "cp1251"},
	{19, 19, "euckr"}, {85, 85, "euckr"},
	{20, 20, "latin7"}, {41, 42, "latin7"}, {79, 79, "latin7"},
	{26, 26, "cp1250"}, {34, 34, "cp1250"}, {44, 44, "cp1250"}, {66, 66, "cp1250"}, {99, 99, "cp1250"},
	{28, 28, "gbk"}, {87, 87, "gbk"},
	{29, 29, "cp1257"}, {58, 59, "cp1257"},
	{30, 30, "latin5"}, {78, 78, "latin5"},
	{33, 33, "utf8mb3"}, {76, 76, "utf8mb3"}, {83, 83, "utf8mb3"}, {192, 215, "utf8mb3"}, {223, 223, "utf8mb3"},
	{35, 35, "ucs2"}, {90, 90, "ucs2"}, {128, 151, "ucs2"}, {159, 159, "ucs2"},
	{40, 40, "cp852"}, {81, 81, "cp852"},
	{45, 46, "utf8mb4"}, {224, 247, "utf8mb4"}, {255, 323, "utf8mb4"},
	{54, 55, "utf16"}, {101, 124, "utf16"},
	{56, 56, "utf16le"}, {62, 62, "utf16le"},
	{57, 57, "cp1256"}, {67, 67, "cp1256"},
	{60, 61, "utf32"}, {160, 183, "utf32"},
	{95, 96, "cp932"},
	// MariaDB: 576 to 823 add languages, 2048 and up are the UCA 14.0.0 families.
	{576, 579, "utf8mb3"}, {608, 611, "utf8mb4"}, {640, 642, "ucs2"}, {672, 674, "utf16"}, {736, 738, "utf32"},
	{2048, 2303, "utf8mb3"}, {2304, 2559, "utf8mb4"}, {2560, 2815, "ucs2"}, {2816, 3071, "utf16"}, {3072, 3327, "utf32"},
}

// nopad is what MariaDB adds to a collation's id for its NO PAD form.
const nopad = 1024

// charsetOf returns the character set of a collation, "" if it is not known.
func charsetOf(collation uint64) string {
	if collation > nopad && collation < 2*nopad {
		collation -= nopad
	}
	for _, r := range collationRanges {
		if collation >= r.from && collation <= r.to {
			return r.charset
		}
	}
	return ""
}
