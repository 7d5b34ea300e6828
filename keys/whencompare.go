package keys

import (
	"cmp"
	"errors"
	"reflect"
	"strconv"
)

// comparisons replace the library's operators in conditions. The library
// answers false where a number meets a text ('7' = 7 is true in MySQL): a
// change would be missed. Here that is an error, and so the condition counts
// as true. And NULL is neither less nor greater than anything, without error.
var comparisons = map[string]func(...any) (any, error){
	"$==": func(p ...any) (any, error) { return equal(p[0], p[1]) },
	"$!=": func(p ...any) (any, error) {
		eq, err := equal(p[0], p[1])
		return !eq, err
	},
	"$<":  func(p ...any) (any, error) { return ordered(p, func(c int) bool { return c < 0 }) },
	"$<=": func(p ...any) (any, error) { return ordered(p, func(c int) bool { return c <= 0 }) },
	"$>":  func(p ...any) (any, error) { return ordered(p, func(c int) bool { return c > 0 }) },
	"$>=": func(p ...any) (any, error) { return ordered(p, func(c int) bool { return c >= 0 }) },
	"$in": func(p ...any) (any, error) { return within(p[0], p[1]) },
}

var errMixed = errors.New("compared values of different kinds")

func equal(a, b any) (bool, error) {
	if a == nil || b == nil {
		return a == nil && b == nil, nil
	}
	c, err := compare(a, b)
	return c == 0 && err == nil, err
}

func ordered(p []any, holds func(int) bool) (any, error) {
	if p[0] == nil || p[1] == nil {
		return false, nil
	}
	c, err := compare(p[0], p[1])
	return holds(c), err
}

// within is the operator in. An element of another kind is an error only if no
// element is equal.
func within(x, list any) (any, error) {
	v := reflect.ValueOf(list)
	if v.Kind() != reflect.Slice {
		return false, errMixed
	}
	var mixed error
	for i := range v.Len() {
		eq, err := equal(x, v.Index(i).Interface())
		if eq {
			return true, nil
		}
		if err != nil {
			mixed = err
		}
	}
	return false, mixed
}

func compare(a, b any) (int, error) {
	if s, ok := a.(string); ok {
		t, ok := b.(string)
		if !ok {
			return 0, errMixed
		}
		return cmp.Compare(s, t), nil
	}
	i, f, ok := number(a)
	j, g, ok2 := number(b)
	if !ok || !ok2 {
		return 0, errMixed
	}
	if f == nil && g == nil {
		return cmp.Compare(i, j), nil
	}
	return cmp.Compare(asFloat(i, f), asFloat(j, g)), nil
}

// number returns a number as an int, or as a float where it is none.
func number(v any) (i int, f *float64, ok bool) {
	switch v := v.(type) {
	case int:
		return v, nil, true
	case float64:
		return 0, &v, true
	case bool: // MySQL's TRUE and FALSE are 1 and 0
		if v {
			return 1, nil, true
		}
		return 0, nil, true
	}
	return 0, nil, false
}

func asFloat(i int, f *float64) float64 {
	if f != nil {
		return *f
	}
	return float64(i)
}

// variable returns what a condition sees of a value that is not Absent: nil,
// an int where it fits, another number as float64, a string.
func (v Value) variable() any {
	switch v.Kind {
	case Absent, Null:
		return nil
	case Number:
		if i, err := strconv.Atoi(v.Text); err == nil {
			return i
		}
		if f, err := strconv.ParseFloat(v.Text, 64); err == nil {
			return f
		}
	case Text:
	}
	return v.Text
}
