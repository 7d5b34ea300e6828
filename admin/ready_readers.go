package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Notice is something that weakens a promise, although the process can do its work.
type Notice struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Warnings returns all notices by name.
func (r *Ready) Warnings() []Notice {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := []Notice{}
	for name, reason := range r.warnings {
		all = append(all, Notice{name, reason})
	}
	for reader, partitions := range r.out {
		all = append(all, Notice{"reader " + reader + " is out", fmt.Sprintf(
			"second deletes no longer wait for it in %s, and are owed to it: let no cache fill read it", list(partitions))})
	}
	slices.SortFunc(all, func(a, b Notice) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// list names some of the partitions.
func list(partitions map[string]bool) string {
	const most = 5
	names := make([]string, 0, len(partitions))
	for p := range partitions {
		names = append(names, p)
	}
	slices.Sort(names)
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}

// readerHooks keep the notices about readers, and the condition Partitions.
func (r *Ready) readerHooks() pipeline.Hooks {
	return pipeline.Hooks{
		ReaderAsked: func(i pipeline.ReaderInfo) {
			name := "reader " + i.Name + " is late"
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.warnings, name)
			if i.Late && !i.Source {
				r.warnings[name] = fmt.Sprintf("it lags by %v, more than second_delete.max_wait: let no cache fill read it", i.Lag.Round(time.Second))
			}
		},
		ReaderOut: func(i pipeline.ReaderOutInfo) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.setOut(i.Reader, i.Partition, i.Out)
		},
		Owned: func(partition string, owned bool) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if owned {
				r.partitionsKnown()
				return
			}
			for reader := range r.out { // the next owner tells of it
				r.setOut(reader, partition, false)
			}
		},
		Joined: func(partitions int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if partitions == 0 {
				r.partitionsKnown()
			}
		},
	}
}

func (r *Ready) partitionsKnown() {
	if _, awaited := r.reasons[Partitions]; awaited {
		r.reasons[Partitions] = ""
	}
}

func (r *Ready) setOut(reader, partition string, out bool) {
	switch {
	case out && r.out[reader] == nil:
		r.out[reader] = map[string]bool{partition: true}
	case out:
		r.out[reader][partition] = true
	default:
		delete(r.out[reader], partition)
		if len(r.out[reader]) == 0 {
			delete(r.out, reader)
		}
	}
}
