package pipeline_test

import (
	"reflect"
	"testing"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Every hook is joined.
func TestJoin(t *testing.T) {
	calls := 0
	var one pipeline.Hooks
	v := reflect.ValueOf(&one).Elem()
	for i := range v.NumField() {
		v.Field(i).Set(reflect.MakeFunc(v.Field(i).Type(), func([]reflect.Value) []reflect.Value {
			calls++
			return nil
		}))
	}
	joined := reflect.ValueOf(pipeline.Join(one, pipeline.Hooks{}, one))
	for i := range joined.NumField() {
		f := joined.Field(i)
		var args []reflect.Value
		for k := range f.Type().NumIn() {
			args = append(args, reflect.Zero(f.Type().In(k)))
		}
		calls = 0
		if f.Call(args); calls != 2 {
			t.Errorf("%s: %d calls, want 2", joined.Type().Field(i).Name, calls)
		}
	}
}
