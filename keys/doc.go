// Package keys is the key schema: one YAML file from which the tailer learns
// which columns to publish, the invalidators which Redis keys a row change
// makes stale, and applications how to build those same keys.
//
// Applications need three things: [Load] (or [Parse]), [Schema.Key], and the
// helpers that turn a Go value into the text which the tailer makes of the
// MySQL column ([Date], [DateTime], [Timestamp], [Time], [Decimal], [Bit],
// [Binary]). The rest of the package serves the engine: [Schema.Table] finds
// the rules of a table, [Table.Bind] ties them to the columns that an event
// carries, [Binding.Append] makes the keys of a row change.
//
// Keys come from the before and the after image (I5). What cannot be turned
// into a key with certainty is reported as a [Doubt], never dropped (I8).
//
// docs/schema.md is the reference of the file and of the key protocol.
package keys
