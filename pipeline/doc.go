// Package pipeline is the engine: it turns a source's committed row changes
// into events in a log, and those events into deletes of Redis keys, twice.
//
//	Source ──Batch──▶ Tailer ──Record──▶ the log ──Message──▶ Invalidator ──keys──▶ Deleter
//	         (gate: visible?)   Publisher            Consumer     first pass: at once
//	                                                              second pass: when due
//
// The log is the delay queue. Each partition has one owner, which runs two
// cursors over it: the first pass deletes at once, the second pass follows
// behind and deletes again when an event is due. A cursor says exactly what has
// been done, so crash, rebalance, failover and replay are one code path:
// redelivery of deletes, which are idempotent and commute.
//
// A second delete is due fill after every server that cache fills read from has
// shown the change (Readers), unless one of them is marked out: that one is owed
// what was done without it (marks.go, judge.go). It counts once Redis is known not
// to have stood still around it (confirm.go).
//
// The package talks to no server itself. Everything outside is behind the
// interfaces of seams.go, which the packages binlog, bus and deleter implement.
//
// # Invariants
//
// Tests and log lines cite these numbers.
//
//   - I1 A pass stores a cursor only when every lower offset's deletes of that
//     pass have been acknowledged by Redis, and only up to the synced end of the
//     log incarnation that it names; at open, a cursor beyond the end or of
//     another incarnation is a gap.
//   - I2 A position is checkpointed only when all its transaction's events are
//     durable in the log.
//   - I3 A position moves only at a transaction's end, never at GTID or BEGIN.
//   - I4 Progress belongs to one generation of one partition, and is useless
//     after it.
//   - I5 Keys come from the before and the after image.
//   - I6 A second delete happens no earlier than fill after the change is visible
//     on every server that fills read, except for a reader marked out, whose
//     interval is repeated when it returns.
//   - I7 A fill is stored only while its lease is still the key's value; any
//     delete revokes it. (The leases are in package cache.)
//   - I8 Nothing is skipped silently: what cannot be turned into keys is
//     over-invalidated, counted, and kept in a dead-letter log with its reason.
//   - I9 No decision compares the clocks of two machines.
package pipeline
