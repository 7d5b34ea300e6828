package wire

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/config"
)

// traced prints a stack trace with %+v, as the errors of go-mysql do.
type traced struct{ error }

func (t traced) Format(f fmt.State, _ rune) {
	if f.Flag('+') {
		fmt.Fprint(f, "goroutine 1: ")
	}
	fmt.Fprint(f, t.Error())
}

func TestErrorsAreLoggedWithoutStackTraces(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out strings.Builder
		log := newLogger(&config.Config{LogLevel: "info", LogFormat: format}, &out)
		log.Warn("failed", "err", traced{errors.New("connection was bad")})
		if got := out.String(); !strings.Contains(got, "connection was bad") || strings.Contains(got, "goroutine") {
			t.Errorf("%s: %s", format, got)
		}
	}
}
