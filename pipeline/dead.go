package pipeline

import "context"

// DeadLetter is a record, or a part of one, that could not be turned into keys.
type DeadLetter struct {
	Partition string `json:"partition"`
	Offset    int64  `json:"offset"`
	Reason    string `json:"reason"`
	Data      []byte `json:"data"` // the record as it was in the log
	// Schema is the hash of the key schema of the invalidator that handled it, by
	// which everything was deleted instead; "" where an older release did.
	Schema string `json:"schema,omitempty"`
}

// DeadLetters keeps dead letters for an operator and for replay.
type DeadLetters interface {
	// Add returns when d is durable. Adding the same one again is harmless.
	Add(ctx context.Context, d DeadLetter) error
}
