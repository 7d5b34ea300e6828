package binlog

import (
	"strconv"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// fractionBytes is the room that a fraction of so many digits takes.
func fractionBytes(digits uint16) int { return int(digits+1) / 2 }

// appendFraction adds "." and the digits of a stored fraction, which counts
// hundredths, ten-thousandths or millionths: an even number of digits.
func appendFraction(dst []byte, stored int64, digits int) []byte {
	if digits == 0 {
		return dst
	}
	if digits%2 == 1 {
		stored /= 10
	}
	return appendPadded(append(dst, '.'), stored, digits)
}

func appendPadded(dst []byte, v int64, width int) []byte {
	for limit := int64(10); width > 1; width, limit = width-1, limit*10 {
		if v < limit {
			for range width - 1 {
				dst = append(dst, '0')
			}
			break
		}
	}
	return strconv.AppendInt(dst, v, 10)
}

func appendClock(dst []byte, h, m, s int64) []byte {
	dst = append(appendPadded(dst, h, 2), ':')
	dst = append(appendPadded(dst, m, 2), ':')
	return appendPadded(dst, s, 2)
}

func appendDay(dst []byte, y, m, d int64) []byte {
	dst = append(appendPadded(dst, y, 4), '-')
	dst = append(appendPadded(dst, m, 2), '-')
	return appendPadded(dst, d, 2)
}

func appendDate(dst []byte, v uint64) []byte {
	return appendDay(dst, int64(v>>9), int64(v>>5)&15, int64(v)&31)
}

// appendDatetime2 decodes 1 bit of sign, 17 of year*13+month, 5 of day, 5 of
// hour, 6 of minute, 6 of second, then the fraction.
func appendDatetime2(dst, v []byte, digits int) []byte {
	n := int64(bigEndian(v[:5])) & 0x7fffffffff
	ym := n >> 22
	dst = append(appendDay(dst, ym/13, ym%13, n>>17&31), ' ')
	dst = appendClock(dst, n>>12&31, n>>6&63, n&63)
	return appendFraction(dst, int64(bigEndian(v[5:])), digits)
}

// appendTime2 decodes 1 bit of sign, 1 unused, 10 of hour, 6 of minute, 6 of
// second, then the fraction. Negative times are stored as the complement of the
// whole number, fraction included.
func appendTime2(dst, v []byte, digits int) []byte {
	bits := 8 * (len(v) - 3)
	n := int64(bigEndian(v)) - 1<<(23+bits)
	if n < 0 {
		dst = append(dst, '-')
		n = -n
	}
	hms := n >> bits
	dst = appendClock(dst, hms>>12&1023, hms>>6&63, hms&63)
	return appendFraction(dst, n&(1<<bits-1), digits)
}

// appendOldTemporal decodes columns that were made before MySQL 5.6.4 and never
// rebuilt; they have no fraction.
func appendOldTemporal(dst []byte, typ byte, v uint64) []byte {
	switch typ {
	case mysql.MYSQL_TYPE_TIME:
		n := int64(v<<40) >> 40
		if n < 0 {
			dst = append(dst, '-')
			n = -n
		}
		return appendClock(dst, n/10000, n/100%100, n%100)
	case mysql.MYSQL_TYPE_TIMESTAMP:
		if v == 0 {
			return append(dst, "0000-00-00 00:00:00"...)
		}
		return time.Unix(int64(v), 0).UTC().AppendFormat(dst, "2006-01-02 15:04:05")
	default:
		d, t := int64(v/1000000), int64(v%1000000)
		dst = append(appendDay(dst, d/10000, d/100%100, d%100), ' ')
		return appendClock(dst, t/10000, t/100%100, t%100)
	}
}

// decimalDigits is the number of bytes that 0 to 9 digits take.
var decimalDigits = [10]int{0, 1, 1, 2, 2, 3, 3, 4, 4, 4}

func decimalSize(precision, scale int) int {
	whole := precision - scale
	if whole < 0 {
		return 0
	}
	return whole/9*4 + decimalDigits[whole%9] + scale/9*4 + decimalDigits[scale%9]
}

// appendDecimal decodes a DECIMAL: groups of nine digits in four bytes each,
// with a shorter group at either end, most significant bit flipped, and all
// bits flipped when it is negative. Zero has no minus sign.
func appendDecimal(dst, v []byte, precision, scale int) []byte {
	if len(v) == 0 {
		return append(dst, '0')
	}
	start := len(dst)
	negative := v[0]&0x80 == 0
	flip := byte(0)
	if negative {
		flip = 0xff
		dst = append(dst, '-')
	}
	pos := 0
	group := func(digits int) int64 {
		var n int64
		for range decimalDigits[digits] {
			b := v[pos] ^ flip
			if pos == 0 {
				b ^= 0x80
			}
			n, pos = n<<8|int64(b), pos+1
		}
		return n
	}
	whole, zero, leading := precision-scale, true, true
	add := func(digits int, pad bool) {
		n := group(digits)
		zero = zero && n == 0
		if pad {
			dst = appendPadded(dst, n, digits)
		} else if n != 0 {
			dst = strconv.AppendInt(dst, n, 10)
		}
	}
	for digits := whole % 9; ; digits = 9 {
		if digits > 0 {
			add(digits, !leading)
			leading = leading && zero
		}
		if whole -= digits; whole <= 0 {
			break
		}
	}
	if leading {
		dst = append(dst, '0')
	}
	if scale > 0 {
		dst = append(dst, '.')
	}
	for ; scale >= 9; scale -= 9 {
		add(9, true)
	}
	if scale > 0 {
		add(scale, true)
	}
	if negative && zero {
		dst = append(dst[:start], dst[start+1:]...)
	}
	return dst
}
