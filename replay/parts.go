package replay

import "github.com/doubletap-cdc/doubletap/pipeline"

// partKeys is how many keys go at once, about. A chunk is published in parts: a
// few thousand deletes in one go would make live ones wait behind them in Redis,
// however low the mean rate is.
const partKeys = 1000

// partsOf divides a chunk's events into parts of about partKeys keys, of which
// the whole chunk has n. Nothing is copied but headers. The order stays.
func partsOf(events []pipeline.Event, n int) [][]pipeline.Event {
	size := 0
	for i := range events {
		size += sizeOf(&events[i])
	}
	if n <= partKeys+partKeys/2 || size == 0 {
		return [][]pipeline.Event{events}
	}
	limit := max(size*partKeys/n, 1) // rows and keys of a part
	var all [][]pipeline.Event
	var part []pipeline.Event
	room := limit
	for i := range events {
		for e := events[i]; ; {
			head, rest, ok := cutEvent(e, room)
			part = append(part, head)
			room -= sizeOf(&head)
			if room <= 0 {
				all, part, room = append(all, part), nil, limit
			}
			if !ok {
				break
			}
			e = rest
		}
	}
	if len(part) > 0 {
		all = append(all, part)
	}
	return all
}

// sizeOf is the rows and keys of an event.
func sizeOf(e *pipeline.Event) int {
	n := len(e.Keys)
	for i := range e.Tables {
		n += len(e.Tables[i].Rows)
	}
	return n
}

// cutEvent cuts an event behind its first n rows or keys, n > 0; ok is false where
// it has no more. Only an event of one table, or of keys alone, is cut.
func cutEvent(e pipeline.Event, n int) (head, rest pipeline.Event, ok bool) {
	if sizeOf(&e) <= n {
		return e, rest, false
	}
	head, rest = e, e
	rest.Seq++
	switch {
	case len(e.Scopes) > 0:
		return e, pipeline.Event{}, false
	case len(e.Tables) == 1 && len(e.Keys)+len(e.Patterns) == 0:
		t := e.Tables[0]
		before, behind := t, t
		before.Rows, behind.Rows = t.Rows[:n], t.Rows[n:]
		head.Tables, rest.Tables = []pipeline.TableRows{before}, []pipeline.TableRows{behind}
	case len(e.Tables) == 0:
		head.Keys, rest.Keys = e.Keys[:n], e.Keys[n:]
		head.Patterns = nil // they are in the last part
	default:
		return e, pipeline.Event{}, false
	}
	return head, rest, true
}
