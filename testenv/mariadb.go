package testenv

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// MariaDB starts a MariaDB server and waits until it answers. GTIDs are always on there.
func (e *Env) MariaDB(ctx context.Context, o MySQLOptions) (*Server, error) {
	args := []string{
		"--log-bin=binlog", "--binlog-format=ROW", "--binlog-row-metadata=FULL", "--log-slave-updates=ON",
	}
	s, err := e.sqlServer(ctx, o, &spec{
		kind: "mariadbd", component: "mariadb", args: append(args, sqlArgs(o)...), native: nativeMariaDB,
		container: containerSpec{cmd: []string{"mariadbd"}, env: map[string]string{"MARIADB_ALLOW_EMPTY_ROOT_PASSWORD": "yes"}},
	})
	if err != nil || o.ReplicaOf == nil {
		return s, err
	}
	// From 11.4 on a replica wants to verify the source's certificate unless told otherwise.
	return s, replicate(ctx, s,
		"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%s, MASTER_USER='root', MASTER_SSL=0, MASTER_SSL_VERIFY_SERVER_CERT=0, MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1",
		o.ReplicaOf, "START SLAVE")
}

// nativeMariaDB copies a data folder that was initialised once, and describes the process.
func nativeMariaDB(ctx context.Context, n *native, sp *spec, dir string) (*process, error) {
	root, st, err := n.cache.packaged(ctx, "mariadb")
	if err != nil {
		return nil, err
	}
	template, err := n.mariadbTemplate(ctx, root, st, initialiseArgs(sp.args))
	if err != nil {
		return nil, err
	}
	argv, err := mariadbProgram(root)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	return &process{argv: slices.Concat(argv, sqlPaths(data), sp.args)}, copyTree(filepath.Join(template, "data"), data)
}

func mariadbProgram(root string) ([]string, error) {
	share := filepath.Join(root, "usr/share/mariadb")
	argv, err := program(root, "mariadbd", "usr/sbin/mariadbd")
	argv = append(argv, "--no-defaults", "--basedir="+filepath.Join(root, "usr"), "--lc-messages-dir="+share,
		"--character-sets-dir="+filepath.Join(share, "charsets"), "--plugin-dir="+filepath.Join(root, "usr/lib/mysql/plugin"))
	return append(argv, asUser()...), err
}

// mariadbTemplate returns the folder that holds an initialised data folder.
func (n *native) mariadbTemplate(ctx context.Context, root string, st stamp, once []string) (string, error) {
	argv, err := mariadbProgram(root)
	if err != nil {
		return "", err
	}
	return n.cache.template(ctx, "mariadb", fmt.Sprint("1", st.Packages, once), func(ctx context.Context, dir string) error {
		n.cache.log("mariadb: initialising a data folder")
		return bootstrapMariaDB(ctx, slices.Concat(argv, once), filepath.Join(root, "usr/share/mariadb"), filepath.Join(dir, "data"))
	})
}

// bootstrapMariaDB creates the system tables as the script mariadb-install-db does, which cannot run from a folder: it
// would call programs without their loader. Root gets no password, from this machine.
func bootstrapMariaDB(ctx context.Context, argv []string, share, data string) error {
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	script := bytes.NewBufferString("CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n")
	for _, name := range []string{
		"mariadb_system_tables.sql", "mariadb_performance_tables.sql", "mariadb_system_tables_data.sql",
		"maria_add_gis_sp_bootstrap.sql", "mariadb_sys_schema.sql",
	} {
		text, err := os.ReadFile(filepath.Join(share, name))
		if err != nil {
			return err
		}
		script.Write(text)
	}
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], "--bootstrap", "--datadir="+data, "--log-warnings=0",
		"--enforce-storage-engine=", "--max-allowed-packet=8M", "--net-buffer-length=16K")...)
	cmd.Stdin = script
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initialise a data folder: %w\n%s", err, out)
	}
	return nil
}
