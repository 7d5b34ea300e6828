package keys

import (
	"strings"
	"testing"
	"time"
)

type (
	namedInt    int32
	namedUint   uint16
	namedString string
	namedBytes  []byte
	namedBool   bool
	stringer    struct{}
)

func (stringer) String() string  { return "secret" }
func (namedInt) String() string  { return "not this" }
func (namedBool) String() string { return "not this" }

func TestKeyTakesGoValues(t *testing.T) {
	s := schemaOf(t, ruleText{[]string{"k:", ""}, "!"})
	text, five := "x y", 5
	var noText *string
	for _, c := range []struct {
		in   any
		want string
	}{
		{int(-1), "k:-1"}, {int8(-128), "k:-128"}, {int16(7), "k:7"}, {int32(7), "k:7"}, {int64(-9223372036854775808), "k:-9223372036854775808"},
		{uint(7), "k:7"}, {uint8(255), "k:255"}, {uint16(7), "k:7"}, {uint32(7), "k:7"}, {uint64(18446744073709551615), "k:18446744073709551615"},
		{"a:b", "k:a%3Ab"}, {"", "k:"}, {[]byte{0xDE, 0xAD, 0}, "k:dead00"}, {[]byte{}, "k:"}, {true, "k:1"}, {false, "k:0"},
		{namedInt(3), "k:3"}, {namedUint(3), "k:3"}, {namedString("é"), "k:é"}, {namedBytes{1}, "k:01"}, {namedBool(true), "k:1"},
		{nil, "k:!"}, {noText, "k:!"}, {[]byte(nil), "k:!"}, {&text, "k:x%20y"}, {&five, "k:5"},
		{Value{Number, "1.50"}, "k:1.50"}, {Value{Kind: Null}, "k:!"}, {Value{Text, "x"}, "k:x"},
	} {
		if got, err := s.Key("r0", c.in); err != nil || got != c.want {
			t.Errorf("%T %v: %q, %v; want %q", c.in, c.in, got, err, c.want)
		}
	}
}

func TestKeyRefusesGoValues(t *testing.T) {
	s := schemaOf(t, ruleText{[]string{"k:", ""}, "!"})
	for _, c := range []struct {
		in   any
		want string // in the error
	}{
		{time.Now(), "keys.Timestamp"}, {time.Second, "keys.Time"}, {1.5, "keys.Decimal"}, {float32(1), "keys.Decimal"},
		{[16]byte{}, "slice"}, {stringer{}, "keys.stringer"}, {[]int{1}, "[]int"}, {map[string]int{}, "map"}, {complex(1, 1), "complex128"},
		{Value{}, "absent"}, {make(chan int), "chan"}, {new(time.Time), "keys.Timestamp"}, {[]string{"a"}, "[]string"},
	} {
		_, err := s.Key("r0", c.in)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%T: %v, want an error that says %q", c.in, err, c.want)
		}
	}
}

func TestKeyErrors(t *testing.T) {
	s, err := Parse("keys.yaml", []byte(`
version: 1
keys:
  - {name: item, table: shop.item, key: "item:{id}"}
  - {name: day, table: shop.item, key: "day:{a}:{a|date}:{b}"}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		rule   string
		values []any
		want   string
	}{
		{"itme", []any{1}, `keys: no rule "itme" in the schema: did you mean "item"?`},
		{"zzz", []any{1}, `keys: no rule "zzz" in the schema`},
		{"item", nil, `keys: rule "item": got 0 values for the 1 columns (id) of item:{id}`},
		{"item", []any{1, 2}, `keys: rule "item": got 2 values for the 1 columns (id) of item:{id}`},
		{"item", []any{nil}, `keys: rule "item": id is NULL, and the rule makes no key for NULL (null: skip)`},
		{"day", []any{"x", 1}, `keys: rule "day": a: the filter date needs a DATE, DATETIME or TIMESTAMP`},
	} {
		if _, err := s.Key(c.rule, c.values...); err == nil || err.Error() != c.want {
			t.Errorf("%s %v: %v, want %s", c.rule, c.values, err, c.want)
		}
	}
	if got, err := s.Key("day", "2026-01-02 03:04:05", 9); err != nil || got != "day:2026-01-02%2003%3A04%3A05:2026-01-02:9" {
		t.Errorf("a column that is there twice: %q, %v", got, err)
	}
}
