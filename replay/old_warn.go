package replay

import (
	"fmt"
	"strings"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// OldWarnings says, in whole sentences for a plan, what a Run sweeps for the old
// schema whatever it reads: the rules about tables of sweep that today's schema
// does not have. Where that takes keys of today's rules along, it says so.
func OldWarnings(old, today *keys.Schema, sweep []pipeline.Scope) (all []string) {
	for _, pattern := range newOldKeys(old, today, true).sweeps(sweep) {
		text := fmt.Sprintf("Every key like %s is deleted at the end, for the old schema: a table does not hold the values that such keys were made of.", pattern)
		var too []string
		for _, r := range today.Rules() {
			if keys.GlobsOverlap(pattern, r.Pattern()) {
				too = append(too, r.Name())
			}
		}
		if len(too) > 0 {
			text += fmt.Sprintf(" Keys of today's rules may look like that, and go with them: %s.", strings.Join(too, ", "))
		}
		all = append(all, text)
	}
	return all
}
