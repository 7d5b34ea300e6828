// Package model is a model of the invalidation protocol, small enough that a
// machine can try every order of its steps: one cache key, the writers and
// fillers that race for it, the tailer, the log with its two cursors, and Redis,
// each step of which may come before or after any step of the others.
//
// Explore is a breadth-first explorer that knows nothing of the protocol; the
// rest is the protocol. A config says which faults may happen and which parts
// of the protocol are left out: the tests show that the whole holds, and that
// every part is needed. docs/model.md says what is proven, within which bounds,
// and which code each step stands for.
//
// Nothing imports this package.
package model
