package keys

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTimes(t *testing.T) {
	berlin := time.FixedZone("CEST", 2*60*60)
	at := time.Date(2026, 7, 1, 0, 30, 5, 123456789, berlin)
	for _, c := range []struct{ got, want string }{
		{Date(at), "2026-07-01"},
		{Date(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)), "0001-01-01"},
		{DateTime(at, 0), "2026-07-01 00:30:05"},
		{DateTime(at, 3), "2026-07-01 00:30:05.123"},
		{DateTime(at, 6), "2026-07-01 00:30:05.123456"},
		{DateTime(at, 9), "2026-07-01 00:30:05.123456"},
		{DateTime(at, -1), "2026-07-01 00:30:05"},
		{DateTime(at.Truncate(time.Second), 2), "2026-07-01 00:30:05.00"},
		{Timestamp(at, 0), "2026-06-30 22:30:05"},
		{Timestamp(at, 1), "2026-06-30 22:30:05.1"},
		{Time(0, 0), "00:00:00"},
		{Time(0, 3), "00:00:00.000"},
		{Time(time.Hour+2*time.Minute+3*time.Second, 3), "01:02:03.000"},
		{Time(-(838*time.Hour + 59*time.Minute + 59*time.Second), 0), "-838:59:59"},
		{Time(-time.Second/2, 1), "-00:00:00.5"},
		{Time(100*time.Hour+time.Microsecond, 6), "100:00:00.000001"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestDecimal(t *testing.T) {
	for _, c := range []struct {
		in    string
		scale int
		want  string
	}{
		{"12.5", 2, "12.50"},
		{"+007.5", 1, "7.5"},
		{".5", 3, "0.500"},
		{"5.", 0, "5"},
		{"-0.00", 2, "0.00"},
		{"-0.05", 2, "-0.05"},
		{"1.500", 1, "1.5"},
		{"0", 0, "0"},
		{"99999999999999999999999999999999999.000000000000000000000000000001", 30, "99999999999999999999999999999999999.000000000000000000000000000001"},
	} {
		if got, err := Decimal(c.in, c.scale); err != nil || got != c.want {
			t.Errorf("Decimal(%q, %d) = %q, %v; want %q", c.in, c.scale, got, err, c.want)
		}
	}
	for _, in := range []string{"", ".", "-", "1e3", "1,5", "0x1", " 1", "--1", "+-1", "1.2.3", "1.25", "NaN"} {
		if got, err := Decimal(in, 1); err == nil {
			t.Errorf("Decimal(%q, 1) = %q, want an error", in, got)
		}
	}
}

// TestDecimalProperties: the text is a JSON number of the same value with
// exactly scale digits, and is its own canonical text.
func TestDecimalProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.StringMatching(`[+-]?[0-9]{1,12}(\.[0-9]{0,6})?`).Draw(t, "in")
		scale := rapid.IntRange(6, 10).Draw(t, "scale")
		got, err := Decimal(in, scale)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := new(big.Rat).SetString(in)
		if have, ok := new(big.Rat).SetString(got); !ok || have.Cmp(want) != 0 {
			t.Fatalf("%q became %q", in, got)
		}
		if _, frac, _ := strings.Cut(got, "."); len(frac) != scale {
			t.Fatalf("%q has %d digits after the point, want %d", got, len(frac), scale)
		}
		if !json.Valid([]byte(got)) {
			t.Fatalf("%q is not a JSON number", got)
		}
		if again, err := Decimal(got, scale); err != nil || again != got {
			t.Fatalf("%q became %q, %v", got, again, err)
		}
	})
}

func TestBitAndBinary(t *testing.T) {
	if got := Bit(1<<64 - 1); got != "18446744073709551615" {
		t.Errorf("Bit = %q", got)
	}
	if got := Binary([]byte{0, 0xAB, 0xff}); got != "00abff" {
		t.Errorf("Binary = %q", got)
	}
}

func TestCheckType(t *testing.T) {
	for _, ok := range []string{
		"int", "INT UNSIGNED", "bigint(20) unsigned zerofill", "tinyint(1)", "decimal(10,2)", "bit(64)", "year",
		"char(36)", "varchar(10)", "longtext", "binary(16)", "longblob", "enum('a','b(c)')", "set('x')", "date", "datetime(6)", "timestamp", "time(3)",
	} {
		if err := CheckType(ok); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
		if err := CheckConditionType(ok); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for refused, condition := range map[string]bool{
		"float": true, "double": true, "double precision": true, "real": true, "json": false, "geometry": false, "point": false,
		"multipolygon": false, "geomcollection": false, "vector(3)": false, "uuid": false, "inet6": false, "": false, "xml": false,
		"varchar(100) /*M!100301 COMPRESSED*/": false,
	} {
		if err := CheckType(refused); err == nil {
			t.Errorf("%q may be part of a key", refused)
		}
		if err := CheckConditionType(refused); (err == nil) != condition {
			t.Errorf("%q in a condition: %v", refused, err)
		}
	}
}
