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
	if n, still := r.standing.notice(); still {
		all = append(all, n)
	}
	for name, t := range r.trouble {
		if t.replay && time.Now().Before(t.until) {
			all = append(all, Notice{name, t.reason})
		}
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
	return pipeline.Join(r.outHooks(), pipeline.Hooks{
		ReaderAsked: r.asked,
		Posted: func(partition string, w pipeline.Watermark) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.warn("trust in "+partition, len(w.Untrusted) > 0,
				"applications are told not to trust what is cached for "+strings.Join(w.Untrusted, ", ")+" (* is all rules): deletes are late, or the source does not say how late they are")
		},
		Owned: func(partition string, owned bool) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if owned {
				r.partitionsKnown()
				return
			}
			delete(r.warnings, "trust in "+partition)
		},
		Joined: func(partitions int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if partitions == 0 {
				r.partitionsKnown()
			}
		},
	})
}

// outHooks keep the notices about readers that are out.
func (r *Ready) outHooks() pipeline.Hooks {
	return pipeline.Hooks{
		ReaderOut: func(i pipeline.ReaderOutInfo) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.setOut(i.Reader, i.Partition, i.Out)
		},
		Owned: func(partition string, owned bool) {
			if owned {
				return
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			for reader := range r.out { // the next owner tells of it
				r.setOut(reader, partition, false)
			}
		},
	}
}

func (r *Ready) asked(i pipeline.ReaderInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i.Source {
		r.warn("source is silent", i.Err != nil, fmt.Sprintf("it does not say what it shows: %v", i.Err))
		return
	}
	r.warn("reader "+i.Name+" is silent", i.Err != nil, fmt.Sprintf("it does not say what it shows, and second deletes wait for it: %v", i.Err))
	r.warn("reader "+i.Name+" is late", i.Late, fmt.Sprintf("it lags by %v, more than second_delete.max_wait: let no cache fill read it", i.Lag.Round(time.Second)))
}

// warn keeps a notice while it is true.
func (r *Ready) warn(name string, isTrue bool, reason string) {
	if isTrue {
		r.warnings[name] = reason
	} else {
		delete(r.warnings, name)
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
