package binlog

import (
	"errors"
	"fmt"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// The drivers that Config.Driver can name.
const (
	DriverReplication = "replication"
	DriverCanal       = "canal"
)

// chooseDriver returns the driver for a server: the one that cfg names, else
// replication where the server can name columns in the binlog
// (binlog_row_metadata=FULL), canal where it cannot.
func chooseDriver(cfg Config, srv Server) (string, error) {
	switch cfg.Driver {
	case "":
		if srv.FullMetadata {
			return DriverReplication, nil
		}
		return DriverCanal, nil
	case DriverReplication, DriverCanal:
		return cfg.Driver, nil
	}
	return "", fmt.Errorf("source driver %q is unknown: use %q, %q, or leave it out", cfg.Driver, DriverReplication, DriverCanal)
}

// NewSource returns the source for a server that Detect has described. It does
// not connect. cfg.ServerID must have been resolved: see LeaseServerID.
func NewSource(cfg Config, srv Server) (pipeline.Source, error) {
	driver, err := chooseDriver(cfg, srv)
	if err != nil {
		return nil, err
	}
	if cfg.ServerID == 0 {
		return nil, errors.New("the source has no server id: set server_id, or lease one first")
	}
	if cfg.Schema == nil {
		return nil, errors.New("the source has no key schema")
	}
	if driver == DriverCanal {
		return &canalSource{history: history{cfg: cfg, srv: srv}}, nil
	}
	return &replicationSource{history: history{cfg: cfg, srv: srv}}, nil
}
