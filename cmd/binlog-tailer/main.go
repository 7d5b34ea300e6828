// Command binlog-tailer follows a MySQL or MariaDB binlog and publishes the row
// changes that the key schema names to Kafka.
package main

import (
	"os"

	"github.com/doubletap-cdc/doubletap/cmd/internal/wire"
)

func main() { os.Exit(wire.Main(wire.Tailer, os.Args[1:], os.Stdout, os.Stderr)) }
