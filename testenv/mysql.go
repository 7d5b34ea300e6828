package testenv

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"
)

// MySQLOptions are the settings of a MySQL or MariaDB server; the zero value is usable. The server has GTIDs, row format,
// full row images and full row metadata on, keeps the durable defaults (sync_binlog, innodb_flush_log_at_trx_commit), and
// lets root in without a password, from this machine only.
type MySQLOptions struct {
	Args      []string // further server arguments; a later one wins over ours: "--gtid-mode=OFF"
	ReplicaOf *Server  // start as a read replica of that server
	Port      int      // fixed port; 0 chooses one
	Fast      bool     // no sync at commit: survives the server's death, not the machine's
}

// serverIDs start at this process's id, so that servers of two test processes differ too.
var serverIDs atomic.Uint32

func nextServerID() string {
	return strconv.FormatUint(uint64(os.Getpid())<<10+uint64(serverIDs.Add(1)), 10)
}

// MySQL starts a MySQL server and waits until it answers.
func (e *Env) MySQL(ctx context.Context, o MySQLOptions) (*Server, error) {
	args := []string{
		"--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-bin=binlog", "--binlog-row-metadata=FULL", "--mysqlx=OFF",
		"--secure-file-priv=NULL", "--table-definition-cache=400",
	}
	s, err := e.sqlServer(ctx, o, &spec{
		kind: "mysqld", component: "mysql", args: append(args, sqlArgs(o)...), native: nativeMySQL,
		container: containerSpec{cmd: []string{"mysqld"}, env: map[string]string{"MYSQL_ALLOW_EMPTY_PASSWORD": "yes"}},
	})
	if err != nil || o.ReplicaOf == nil {
		return s, err
	}
	return s, replicate(ctx, s,
		"CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=%s, SOURCE_USER='root', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1",
		o.ReplicaOf, "START REPLICA")
}

// sqlArgs are the arguments that MySQL and MariaDB share.
func sqlArgs(o MySQLOptions) []string {
	args := []string{
		"--server-id=" + nextServerID(), "--bind-address=127.0.0.1", "--binlog-row-image=FULL",
		"--innodb-buffer-pool-size=128M", "--table-open-cache=400", "--max-connections=300",
	}
	if o.Fast {
		args = append(args, "--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2")
	}
	if o.ReplicaOf != nil {
		args = append(args, "--read-only=ON")
	}
	return append(args, o.Args...)
}

func (e *Env) sqlServer(ctx context.Context, o MySQLOptions, base *spec) (*Server, error) {
	base.ready = sqlReady
	return e.run(ctx, 1, o.Port, func(ports []port) *spec {
		sp := *base
		sp.args = append([]string{"--port=" + ports[0].String()}, base.args...)
		return &sp
	})
}

// sqlReady connects as root and asks for the version. The server id tells this server from a stranger on its port.
func sqlReady(ctx context.Context, s *Server) (version string, err error) {
	db, err := OpenDB(s)
	if err != nil {
		return "", err
	}
	defer db.Close()
	var id string
	if err := db.QueryRowContext(ctx, "SELECT VERSION(), @@server_id").Scan(&version, &id); err != nil {
		return "", err
	}
	if want := lastArg(s.spec.args, "--server-id="); id != want { // a stranger on the same port
		return "", fmt.Errorf("%w: server %s answers, not %s", errPortTaken, id, want)
	}
	return upstream(version), nil
}

// lastArg returns what follows prefix in the last argument that has it: the one that counts.
func lastArg(args []string, prefix string) (value string) {
	for _, a := range args {
		if v, ok := strings.CutPrefix(strings.ReplaceAll(a, "_", "-"), prefix); ok {
			value = v
		}
	}
	return value
}

// OpenDB returns a connection pool on a MySQL or MariaDB server, as root, with several statements per call allowed.
func OpenDB(s *Server) (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.MultiStatements = "tcp", s.Addr, "root", true
	cfg.Logger = &mysql.NopLogger{} // polling a server that is starting is not worth a line
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

// replicate points a fresh server at its source.
func replicate(ctx context.Context, s *Server, change string, source *Server, start string) error {
	db, err := OpenDB(s)
	if err != nil {
		return err
	}
	defer db.Close()
	_, sourcePort, _ := strings.Cut(source.Addr, ":")
	for _, stmt := range []string{fmt.Sprintf(change, sourcePort), start} {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return errors.Join(fmt.Errorf("start replication from %s: %w", source.Addr, err), s.Close())
		}
	}
	return nil
}

// asUser lets mysqld run as root, which it refuses to do unasked.
func asUser() []string {
	if os.Getuid() == 0 {
		return []string{"--user=root"}
	}
	return nil
}

// sqlPaths are the arguments of a process's files. The socket's path is relative to the data folder, because a socket's
// full path may have 107 bytes only.
func sqlPaths(data string) []string {
	return []string{"--datadir=" + data, "--socket=socket", "--pid-file=pid"}
}

// initialiseArgs are the arguments that decide the format of a data folder; all others may change from start to start.
func initialiseArgs(args []string) (chosen []string) {
	for _, a := range args {
		for _, name := range []string{"lower-case-table-names", "innodb-page-size", "innodb-undo-tablespaces", "innodb-data-file-path", "character-set-server", "collation-server"} {
			if strings.HasPrefix(strings.ReplaceAll(a, "_", "-"), "--"+name+"=") {
				chosen = append(chosen, a)
			}
		}
	}
	return chosen
}

// nativeMySQL copies a data folder that was initialised once (3 seconds), and describes the process.
func nativeMySQL(ctx context.Context, n *native, sp *spec, dir string) (*process, error) {
	root, st, err := n.cache.packaged(ctx, "mysql")
	if err != nil {
		return nil, err
	}
	template, err := n.mysqlTemplate(ctx, root, st, initialiseArgs(sp.args))
	if err != nil {
		return nil, err
	}
	argv, err := mysqlProgram(root)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	return &process{argv: slices.Concat(argv, sqlPaths(data), sp.args)}, copyTree(filepath.Join(template, "data"), data)
}

func mysqlProgram(root string) ([]string, error) {
	argv, err := program(root, "mysqld", "usr/sbin/mysqld")
	argv = append(argv, "--no-defaults", "--basedir="+filepath.Join(root, "usr"), "--lc-messages-dir="+filepath.Join(root, "usr/share/mysql"),
		"--plugin-dir="+filepath.Join(root, "usr/lib/mysql/plugin"))
	return append(argv, asUser()...), err
}

// mysqlTemplate returns the folder that holds an initialised data folder.
func (n *native) mysqlTemplate(ctx context.Context, root string, st stamp, once []string) (string, error) {
	argv, err := mysqlProgram(root)
	if err != nil {
		return "", err
	}
	return n.cache.template(ctx, "mysql", fmt.Sprint("1", st.Packages, once), func(ctx context.Context, dir string) error {
		n.cache.log("mysql: initialising a data folder")
		args := slices.Concat(argv[1:], once, []string{
			"--initialize-insecure", "--datadir=" + filepath.Join(dir, "data"), "--disable-log-bin",
			"--mysqlx=OFF", "--secure-file-priv=NULL", "--innodb-redo-log-capacity=32M",
		})
		if out, err := exec.CommandContext(ctx, argv[0], args...).CombinedOutput(); err != nil {
			return fmt.Errorf("initialise a data folder: %w\n%s", err, out)
		}
		return os.Remove(filepath.Join(dir, "data/auto.cnf")) // holds server_uuid: each copy makes its own
	})
}
