package binlog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/doubletap-cdc/doubletap/keys"
)

// Deadlines of every connection to the source. A server that is stopped but not
// dead keeps its sockets open, so a read without a deadline would wait for ever
// (go-mysql v1.16.0 canal/canal.go sets none on canal's own side connection).
const (
	dialTimeout = 5 * time.Second
	readTimeout = 30 * time.Second
)

// Config says which server to follow and how.
type Config struct {
	Name           string // the source's name in the configuration
	Addr           string // host:port
	User, Password string
	TLS            *tls.Config // nil: no TLS; an empty ServerName is taken from Addr
	ServerID       uint32      // 0: leased, see LeaseServerID
	Driver         string      // "" (auto), "replication" or "canal"
	Schema         *keys.Schema
	Logger         *slog.Logger // nil: discard
}

func (cfg Config) logger() *slog.Logger {
	if cfg.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return cfg.Logger.With("source", cfg.Name)
}

// Connect opens an SQL connection to the source. It speaks
// mysql_native_password, caching_sha2_password, sha256_password and ed25519.
// Without TLS, caching_sha2_password sends the password encrypted with the RSA
// key that the server offers, which nobody has vouched for: use TLS where the
// network is not trusted.
//
// ctx bounds the connecting only. Reads on the connection fail after 30 s
// without an answer. Errors never contain the password.
func Connect(ctx context.Context, cfg Config) (*client.Conn, error) {
	conn, err := dial(ctx, cfg, readTimeout)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

func dial(ctx context.Context, cfg Config, read time.Duration, capabilities ...uint32) (*client.Conn, error) {
	fail := func(err error) error {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("connect to %s as %q: %w", cfg.Addr, cfg.User, err)
	}
	// The library's handshake does not look at ctx: closing the socket ends it.
	stop := func() bool { return true }
	dialer := &net.Dialer{Timeout: dialTimeout}
	open := func(ctx context.Context, network, addr string) (net.Conn, error) {
		raw, err := dialer.DialContext(ctx, network, addr)
		if err == nil {
			stop = context.AfterFunc(ctx, func() { _ = raw.Close() })
		}
		return raw, err
	}
	conn, err := client.ConnectWithDialer(ctx, "", cfg.Addr, cfg.User, cfg.Password, "", open, func(c *client.Conn) error {
		c.ReadTimeout, c.WriteTimeout = read, read
		if cfg.TLS != nil {
			c.SetTLSConfig(tlsFor(cfg))
		}
		for _, one := range capabilities {
			if err := c.SetCapability(one); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		stop()
		return nil, fail(err)
	}
	// MariaDB does not know the library's default collation, and a global
	// sql_mode such as ANSI_QUOTES must not change what our statements mean.
	_, err = conn.Execute("SET NAMES utf8mb4, SESSION sql_mode = ''")
	if !stop() || err != nil {
		_ = conn.Close()
		return nil, fail(err)
	}
	return conn, nil
}

func tlsFor(cfg Config) *tls.Config {
	c := cfg.TLS.Clone()
	if c.ServerName == "" && !c.InsecureSkipVerify {
		c.ServerName = cfg.Addr
		if host, _, err := net.SplitHostPort(cfg.Addr); err == nil {
			c.ServerName = host
		}
	}
	return c
}

// session is an SQL connection whose queries end with their ctx. It is used by
// one goroutine at a time.
type session struct {
	conn *client.Conn
}

func openSession(ctx context.Context, cfg Config, read time.Duration, capabilities ...uint32) (*session, error) {
	conn, err := dial(ctx, cfg, read, capabilities...)
	if err != nil {
		return nil, err
	}
	return &session{conn}, nil
}

// query runs one statement and returns its rows as text; NULL is "". When ctx
// ends first, the connection is closed and cannot be used any more.
func (s *session) query(ctx context.Context, sql string) ([][]string, error) {
	res, err := s.execute(ctx, sql)
	if err != nil {
		return nil, err
	}
	return rowsOf(res)
}

// execute runs one statement and returns its result. When ctx ends first, the
// connection is closed and cannot be used any more.
func (s *session) execute(ctx context.Context, sql string) (*mysql.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// The inner connection: the outer Close writes fields that a reader uses.
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Conn.Conn.Close() })
	res, err := s.conn.Execute(sql)
	if !stop() && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return res, err
}

// value runs a statement and returns the first column of its first row, "" if
// there is none.
func (s *session) value(ctx context.Context, sql string) (string, error) {
	rows, err := s.query(ctx, sql)
	if err != nil || len(rows) == 0 || len(rows[0]) == 0 {
		return "", err
	}
	return rows[0][0], nil
}

func (s *session) close() { _ = s.conn.Close() }

func rowsOf(res *mysql.Result) ([][]string, error) {
	if res == nil || res.Resultset == nil {
		return nil, nil
	}
	rows := make([][]string, res.RowNumber())
	for i := range rows {
		rows[i] = make([]string, res.ColumnNumber())
		for j := range rows[i] {
			v, err := res.GetString(i, j)
			if err != nil {
				return nil, err
			}
			rows[i][j] = strings.Clone(v)
		}
	}
	return rows, nil
}

// quote makes an SQL string literal. It relies on the empty sql_mode of dial.
func quote(s string) string { return "'" + mysql.Escape(s) + "'" }

// serverCode returns the server's error number, 0 if err is not from a server.
func serverCode(err error) uint16 {
	if e, ok := errors.AsType[*mysql.MyError](err); ok {
		return e.Code
	}
	return 0
}
