// Package cache is an application's look-aside cache in Redis or Valkey that
// cannot keep a value which a later commit has made old, as long as doubletap's
// pipeline runs (docs/cache.md).
//
// A miss takes a lease: a token in the key itself, which any DEL or UNLINK of the
// key revokes. A fill is stored only while its lease is still the key's value
// (I7), and its snapshot begins after the lease. Keys of rules with lease: true
// are served, and no others: all programs must read and fill them through this
// client, or one that speaks the same protocol (docs/cache-protocol.md).
//
// GetAfter and GetManyAfter return nothing older than what their caller has seen, as
// a token says ([Token], [Merge], [HTTP]; docs/read-your-writes.md). While nobody
// vouches for the deletes, a rule's on_untrusted says what happens.
//
// What is cached is served while invalidators vouch for it.
// GetAfter and GetManyAfter serve nothing older than what a user has seen, by tokens
// that [Middleware] carries from request to request (docs/read-your-writes.md).
//
// When Redis is slow or down, the client reads the database instead, stores
// nothing, and bounds how many such loads run at a time.
package cache
