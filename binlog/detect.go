package binlog

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// Server is what a source says about itself.
type Server struct {
	Flavor  string // mysql.MySQLFlavor or mysql.MariaDBFlavor
	Version string // as the server gives it, such as 9.7.4 or 11.8.9-MariaDB
	// UUID tells servers apart. On MySQL it is server_uuid. MariaDB has none: it
	// is made of what the server says about itself, as
	// "mariadb-SERVER_ID-SERVER_UID"; server_uid is a hash of the machine's
	// network address and the port, and where the server is too old to have it
	// (before 10.5.26), host name and port stand in its place. A restored copy on
	// the same host and port therefore looks like the same server.
	UUID         string
	ServerID     uint32
	FullMetadata bool // it can offer binlog_row_metadata=FULL
}

// MariaDB says whether the server is a MariaDB.
func (s Server) MariaDB() bool { return s.Flavor == mysql.MariaDBFlavor }

// Detect connects to the source and finds out what it is.
func Detect(ctx context.Context, cfg Config) (Server, error) {
	s, err := openSession(ctx, cfg, readTimeout)
	if err != nil {
		return Server{}, err
	}
	defer s.close()
	srv, err := detect(ctx, s)
	if err != nil {
		return Server{}, fmt.Errorf("ask the source at %s what it is: %w", cfg.Addr, err)
	}
	return srv, nil
}

func detect(ctx context.Context, s *session) (Server, error) {
	v, err := s.variables(ctx, "version", "server_uuid", "server_uid", "server_id", "hostname", "port", "binlog_row_metadata")
	if err != nil {
		return Server{}, err
	}
	return serverOf(v)
}

// serverOf reads a Server out of global variables.
func serverOf(v map[string]string) (Server, error) {
	id, err := strconv.ParseUint(v["server_id"], 10, 32)
	if err != nil {
		return Server{}, fmt.Errorf("server_id %q is not a number", v["server_id"])
	}
	srv := Server{
		Flavor:   mysql.MySQLFlavor,
		Version:  v["version"],
		UUID:     v["server_uuid"],
		ServerID: uint32(id),
	}
	_, srv.FullMetadata = v["binlog_row_metadata"]
	if strings.Contains(srv.Version, "MariaDB") {
		srv.Flavor = mysql.MariaDBFlavor
		uid := v["server_uid"]
		if uid == "" {
			uid = net.JoinHostPort(v["hostname"], v["port"])
		}
		srv.UUID = fmt.Sprintf("mariadb-%d-%s", id, uid)
	}
	return srv, nil
}

// variables returns the named global variables; those that the server does not
// know are missing from the map.
func (s *session) variables(ctx context.Context, names ...string) (map[string]string, error) {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = quote(n)
	}
	rows, err := s.query(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ("+strings.Join(list, ", ")+")")
	if err != nil {
		return nil, err
	}
	vars := make(map[string]string, len(rows))
	for _, r := range rows {
		vars[strings.ToLower(r[0])] = r[1]
	}
	return vars, nil
}
