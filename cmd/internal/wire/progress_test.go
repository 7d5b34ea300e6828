package wire

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/watermark"
)

// TestOutElsewhere: it is what applications were told last, as before while
// nobody says so, and asked for once a second at most.
func TestOutElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e outElsewhere
		var said watermark.Trust
		var away error
		reads := 0
		look := func(when string, want ...string) {
			t.Helper()
			if got := e.list(func() (watermark.Trust, error) { reads++; return said, away }); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		look("nobody is out")
		said.Out = []string{"u1", "*"}
		look("within a second")
		time.Sleep(readAgain)
		look("two are out", "u1", "*")
		time.Sleep(readAgain)
		said, away = watermark.Trust{}, errors.New("no route")
		look("Redis is away", "u1", "*")
		time.Sleep(readAgain)
		said, away = watermark.Trust{Expired: true}, nil
		look("an owner is gone", "u1", "*")
		time.Sleep(readAgain)
		said.Expired = false
		look("all are back")
		if reads != 5 {
			t.Errorf("%d reads", reads)
		}
	})
}
