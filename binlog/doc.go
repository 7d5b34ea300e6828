// Package binlog is the MySQL and MariaDB side: it follows a server's binlog and
// says when what it read can be seen by readers of that server.
//
// Two drivers stand behind pipeline.Source: replication, which reads column
// names and types from the binlog itself and needs a server that offers
// binlog_row_metadata=FULL, and canal, for older servers or on request. Beside
// them are [Gate], the visibility gate; [Reader], which asks a server what it
// shows; [Preflight] and [PreflightReaders], the checks before a start;
// [LeaseServerID] and [Lock], which keep two tailers from disturbing each other;
// and [Files], binlog files as a source for replays.
//
// No rows are interpreted here beyond their canonical text: which keys a change
// makes stale is for package keys, and when to delete them for package pipeline.
package binlog
