// Command replay invalidates again: a range of the log or of the binlog, a table,
// a list of keys, the dead letters. docs/replay.md is its guide.
package main

import (
	"os"

	"github.com/doubletap-cdc/doubletap/cmd/internal/wire"
)

func main() {
	giveWay()
	os.Exit(wire.Replay(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
