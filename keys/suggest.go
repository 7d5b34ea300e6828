package keys

import (
	"fmt"

	"github.com/doubletap-cdc/doubletap/internal/nearest"
)

// didYouMean returns a hint at the known word nearest to word, "" if none is
// near.
func didYouMean(word string, known []string) string {
	if near := nearest.Name(word, known); near != "" {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	return ""
}
