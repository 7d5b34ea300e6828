package keys

import "time"

// Date returns the canonical text of a DATE: the calendar day of t in t's own
// zone, as 2006-01-02.
func Date(t time.Time) string { return "" }

// DateTime returns the canonical text of a DATETIME(fsp): the wall clock of t
// in t's own zone as "2006-01-02 15:04:05", with fsp (0 to 6) digits of the
// second's fraction. MySQL rounds what it stores; t must be what was read.
// More digits are cut off.
func DateTime(t time.Time, fsp int) string { return "" }

// Timestamp returns the canonical text of a TIMESTAMP(fsp): as [DateTime], in
// UTC.
func Timestamp(t time.Time, fsp int) string { return "" }

// Time returns the canonical text of a TIME(fsp): "[-]hh:mm:ss", hours up to
// 838, with fsp (0 to 6) digits of fraction.
func Time(d time.Duration, fsp int) string { return "" }

// Decimal returns the canonical text of a DECIMAL(p, scale) from any decimal
// literal: exactly scale digits after the point, no plus sign, no leading
// zeros, no minus sign before zero. It is an error if s is not a decimal
// number or has more non-zero digits than scale after the point.
func Decimal(s string, scale int) (string, error) { return "", errNotYet }

// Bit returns the canonical text of a BIT(n): the unsigned integer.
func Bit(v uint64) string { return "" }

// Binary returns the canonical text of a BINARY(n), VARBINARY or BLOB: lower-case
// hex. BINARY(n) is padded to n bytes with zeros, as MySQL stores it: pass all n.
func Binary(b []byte) string { return "" }

// CheckType says whether a column of a MySQL type may be used in a schema:
// nil if so, else an error with the reason. columnType is the DATA_TYPE or
// COLUMN_TYPE of information_schema.columns, such as "int" or
// "decimal(10,2) unsigned". It applies to key columns, columns: and when:.
func CheckType(columnType string) error { return errNotYet }
