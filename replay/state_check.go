package replay

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Check returns an error that names what differs between the stored replay and
// another one that was asked for. Fixed, Args, What and Rows may differ, and
// what j leaves empty.
func (s *State) Check(j Job) error {
	was := &s.stored.Job
	var differs []string
	differ := func(what, was, is string) {
		differs = append(differs, fmt.Sprintf("%s was %s and is %s", what, was, is))
	}
	if j.Kind != "" && j.Kind != was.Kind {
		differ("the source", was.Kind, j.Kind)
	} else if len(j.Given) > 0 && !sameJSON(j.Given, was.Given) {
		differ("what is read", string(was.Given), string(j.Given))
	}
	if len(j.Settings) > 0 && !sameJSON(j.Settings, was.Settings) {
		differ("the set of options", string(was.Settings), string(j.Settings))
	}
	if j.Schema != "" && j.Schema != was.Schema {
		differ("the key schema's hash", was.Schema, j.Schema)
	}
	if j.Old != "" && j.Old != was.Old {
		differ("the old key schema's hash", cmp.Or(was.Old, "none"), j.Old)
	}
	if len(differs) == 0 {
		return nil
	}
	return fmt.Errorf("%s holds another replay, begun %s: %s; give this one a folder of its own, or remove the folder to give that one up",
		s.dir, s.Started.UTC().Format(time.RFC3339), strings.Join(differs, "; "))
}

// sameJSON compares without regard to blanks.
func sameJSON(a, b json.RawMessage) bool {
	return slices.Equal(compactJSON(a), compactJSON(b))
}

func compactJSON(text json.RawMessage) []byte {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return text
	}
	return b.Bytes()
}
