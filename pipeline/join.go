package pipeline

import "time"

// Join returns hooks that call each of hs in order.
func Join(hs ...Hooks) Hooks {
	var j Hooks
	for _, h := range hs {
		j.Held = both(j.Held, h.Held)
		j.Holding = both(j.Holding, h.Holding)
		j.Published = both(j.Published, h.Published)
		j.Checkpoint = both(j.Checkpoint, h.Checkpoint)
		j.Gap = both(j.Gap, h.Gap)
		j.Prepared = both2(j.Prepared, h.Prepared)
		j.Joined = both(j.Joined, h.Joined)
		j.Fetched = both(j.Fetched, h.Fetched)
		j.Handled = both2(j.Handled, h.Handled)
		j.Deleted = both(j.Deleted, h.Deleted)
		j.OverInvalidated = both(j.OverInvalidated, h.OverInvalidated)
		j.DeadLettered = both(j.DeadLettered, h.DeadLettered)
		j.WhenErrors = both(j.WhenErrors, h.WhenErrors)
		j.Refused = both(j.Refused, h.Refused)
		j.SchemaDiffers = both(j.SchemaDiffers, h.SchemaDiffers)
		j.Stalled = both(j.Stalled, h.Stalled)
		j.OtherSchema = both(j.OtherSchema, h.OtherSchema)
		j.ReaderAsked = both(j.ReaderAsked, h.ReaderAsked)
		j.ReaderOut = both(j.ReaderOut, h.ReaderOut)
		j.Posted = both2(j.Posted, h.Posted)
		j.Owned = both2(j.Owned, h.Owned)
		j.Stored = both2(j.Stored, h.Stored)
		j.Recovered = both2(j.Recovered, h.Recovered)
		j.Retry = bothRetry(j.Retry, h.Retry)
	}
	return j
}

func both[T any](a, b func(T)) func(T) {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(v T) { a(v); b(v) }
}

func both2[T, U any](a, b func(T, U)) func(T, U) {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(v T, u U) { a(v, u); b(v, u) }
}

type retryHook = func(op string, attempt int, err error, in time.Duration)

func bothRetry(a, b retryHook) retryHook {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(op string, attempt int, err error, in time.Duration) {
		a(op, attempt, err, in)
		b(op, attempt, err, in)
	}
}
