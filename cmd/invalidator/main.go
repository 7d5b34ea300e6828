// Command invalidator deletes the Redis keys that published row changes make
// stale, at once and a second time when due. With the embedded log it follows
// the binlog too, and is the whole pipeline.
package main

import (
	"os"

	"github.com/doubletap-cdc/doubletap/cmd/internal/wire"
)

func main() { os.Exit(wire.Main(wire.Invalidator, os.Args[1:], os.Stdout, os.Stderr)) }
