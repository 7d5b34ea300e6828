// Package history makes replays of what is recorded: the log, by offsets or by
// time; its dead letters; and the binlog, by GTIDs or by time.
//
// A record of the log comes again as it was published, with its transaction, so
// it is handled like a live one. It holds the columns that the schema of its time
// named: where today's schema needs others, [LogSource.Lacks] says which part of
// the binlog has them. What cannot be decoded is over-invalidated, never skipped.
//
// docs/decisions/replay-log-reading.md has the reasons.
package history
