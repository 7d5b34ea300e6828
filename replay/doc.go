// Package replay invalidates again: what went wrong since a time, what the
// dead-letter log holds, a table whose keys were built wrongly. It is what the
// command replay is made of.
//
// A [Source] brings chunks of events, in the form in which the tailer publishes
// row changes; a [Target] takes them to a log of their own, and invalidators
// handle them there as they handle live events: both passes, readers, leases,
// dead letters. That log is a topic beside the live one, or a folder on local
// disk with an invalidator in the same process. So live changes never queue
// behind a replay, and nothing that a replay deletes takes a shorter road.
//
// A [Pace] holds chunks back while Redis is slow or live changes are late. After
// each chunk the [State] is stored: a replay that was killed goes on with the
// chunk behind the last stored one, so at most one is done twice.
//
// docs/replay.md is the guide, docs/decisions/replay.md has the reasons.
package replay
