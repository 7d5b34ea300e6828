// Package wire makes the parts that a configuration describes and runs them: it
// is what the commands share, and the only place that knows all packages.
package wire
