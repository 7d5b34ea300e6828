package keys

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"time"
)

// valueOf turns a Go value of an application into a Value. Its errors name
// types, never the value.
func valueOf(v any) (Value, error) {
	switch v := v.(type) {
	case nil:
		return Value{Kind: Null}, nil
	case int:
		return Value{Number, strconv.Itoa(v)}, nil
	case int64:
		return Value{Number, strconv.FormatInt(v, 10)}, nil
	case uint64:
		return Value{Number, strconv.FormatUint(v, 10)}, nil
	case string:
		return Value{Text, v}, nil
	case Value:
		if v.Kind == Absent {
			return v, errors.New("the value is absent")
		}
		return v, nil
	case time.Time:
		return Value{}, errors.New("a time.Time has no text of its own: use keys.Date, keys.DateTime or keys.Timestamp, as the column's type says")
	case time.Duration:
		return Value{}, errors.New("a time.Duration has no text of its own: use keys.Time for a TIME column, int64(d) for a number")
	}
	return reflectValue(reflect.ValueOf(v))
}

// reflectValue takes what valueOf's fast path leaves: the other integers,
// bytes, named types of all these kinds, and pointers.
func reflectValue(v reflect.Value) (Value, error) {
	switch v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return Value{Number, strconv.FormatInt(v.Int(), 10)}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return Value{Number, strconv.FormatUint(v.Uint(), 10)}, nil
	case reflect.String:
		return Value{Text, v.String()}, nil
	case reflect.Bool:
		if v.Bool() {
			return Value{Number, "1"}, nil
		}
		return Value{Number, "0"}, nil
	case reflect.Pointer:
		if v.IsNil() {
			return Value{Kind: Null}, nil
		}
		return valueOf(v.Elem().Interface())
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			break
		}
		if v.IsNil() { // as database/sql drivers read and write it
			return Value{Kind: Null}, nil
		}
		return Value{Text, Binary(v.Bytes())}, nil
	case reflect.Float32, reflect.Float64:
		return Value{}, fmt.Errorf("a %s has no exact text: use keys.Decimal for a DECIMAL column; FLOAT and DOUBLE columns cannot be in a key", v.Type())
	case reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return Value{}, fmt.Errorf("a %s is ambiguous: pass a slice of it for a BINARY column, its string for a text column", v.Type())
		}
	}
	return Value{}, fmt.Errorf("a %s cannot be part of a key: pass an integer, a string, []byte for BINARY, a bool, nil, or the text that one of the helpers of package keys makes", v.Type())
}
