// Package bus is the log between tailer and invalidators: Kafka, through
// kafka-go, or an embedded log on local disk for one process, on bbolt. Both
// implement the engine's seams Publisher, Consumer, Positions, Prepared,
// DeadLetters and History, and pass the suite pipelinetest.RunLog.
//
// The package guards the log's half of the invariants: done is called only when
// records are durable (I2), cursors never pass the synced end of the log's
// incarnation (I1), and an owner of an ended generation cannot store (I4). What
// a record means, and what a gap leads to, is the engine's affair.
package bus
