package keys

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Date returns the canonical text of a DATE: the calendar day of t in t's own
// zone, as 2006-01-02.
func Date(t time.Time) string { return t.Format(time.DateOnly) }

// DateTime returns the canonical text of a DATETIME(fsp): the wall clock of t
// in t's own zone as "2006-01-02 15:04:05", with fsp (0 to 6) digits of the
// second's fraction. Pass what was read from MySQL, which rounds when it
// stores: further digits are cut off here.
func DateTime(t time.Time, fsp int) string {
	s := t.Format("2006-01-02 15:04:05.000000")
	return s[:len(s)-len(".000000")+fraction(fsp)]
}

// Timestamp returns the canonical text of a TIMESTAMP(fsp): as [DateTime], in
// UTC.
func Timestamp(t time.Time, fsp int) string { return DateTime(t.UTC(), fsp) }

// Time returns the canonical text of a TIME(fsp): "[-]hh:mm:ss", hours up to
// 838, with fsp (0 to 6) digits of fraction.
func Time(d time.Duration, fsp int) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	s := fmt.Sprintf("%s%02d:%02d:%02d.%06d", sign, d/time.Hour, d/time.Minute%60, d/time.Second%60, d/time.Microsecond%1e6)
	return s[:len(s)-len(".000000")+fraction(fsp)]
}

// fraction returns the length of a fraction of fsp digits with its point.
func fraction(fsp int) int {
	if fsp <= 0 {
		return 0
	}
	return 1 + min(fsp, 6)
}

// Decimal returns the canonical text of a DECIMAL(p, scale) from a decimal
// number such as "+007.5": exactly scale digits after the point, no plus sign,
// no leading zeros, no minus sign before zero. It is an error if s is not a
// decimal number or needs more than scale digits after the point.
func Decimal(s string, scale int) (string, error) {
	digits, minus := strings.CutPrefix(s, "-")
	if !minus {
		digits = strings.TrimPrefix(s, "+")
	}
	whole, frac, _ := strings.Cut(digits, ".")
	if whole+frac == "" || strings.Trim(whole+frac, "0123456789") != "" {
		return "", fmt.Errorf("keys: %q is not a decimal number such as 12.50", s)
	}
	whole = strings.TrimLeft(whole, "0")
	frac = strings.TrimRight(frac, "0")
	if scale < 0 || len(frac) > scale {
		return "", fmt.Errorf("keys: %q needs %d digits after the point, DECIMAL with scale %d has not: round it as MySQL does, or pass what was read", s, len(frac), scale)
	}
	minus = minus && whole+frac != ""
	if whole == "" {
		whole = "0"
	}
	if minus {
		whole = "-" + whole
	}
	if scale == 0 {
		return whole, nil
	}
	return whole + "." + frac + strings.Repeat("0", scale-len(frac)), nil
}

// Bit returns the canonical text of a BIT(n): the unsigned integer.
func Bit(v uint64) string { return strconv.FormatUint(v, 10) }

// Binary returns the canonical text of a BINARY, VARBINARY or BLOB: lower-case
// hex. A BINARY(n) is padded to n bytes with zeros by MySQL: pass all n bytes.
func Binary(b []byte) string { return hex.EncodeToString(b) }
