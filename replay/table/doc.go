// Package table replays the rows of a table: all of them, or those that meet a
// condition, walked by primary-key chunks; or those whose primary keys somebody
// gives. It is a replay.Source.
//
// A walk takes no locks. It reads chunks with plain consistent reads, each in a
// transaction of its own, of the key columns that the key schema needs only, in
// the order of an index. What changes behind it is left to somebody else: to the
// live pipeline, or to the binlog of the time of the walk (Spec.Between).
//
// A walk sees rows as they are now. Keys of rows that are gone, and of values that
// rows have no more, it cannot know: Plan says so, and Spec.Whole is what covers
// them. docs/decisions/replay-table.md has the reasons.
package table
