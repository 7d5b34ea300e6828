package binlog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Reader asks one server that cache fills read from what it shows: the
// transactions that every read sees which begins after the answer.
//
// On MySQL that is gtid_executed. On MariaDB nothing that can be asked for is
// the same, see mariadbView; docs/decisions/readers-on-servers.md has the
// measurements. A Reader keeps one connection and sends one round trip for each
// Ask.
type Reader struct {
	cfg  Config
	name string
	want string

	sess *session
	srv  Server // of sess
	view readerView
}

var _ pipeline.Reader = (*Reader)(nil)

// readerView is what one connection has shown of its server. It is dropped with
// the connection.
type readerView interface {
	ask(ctx context.Context, s *session, srv Server) (pipeline.View, error)
}

// errWrongServer is wrapped by the error of an Ask that another server than the
// expected one has answered.
var errWrongServer = errors.New("another server answers")

// NewReader returns the reader at cfg.Addr; of cfg only Addr, User, Password and
// TLS are used. name is how it is called in logs and metrics. Where wantServer
// is not empty, only the server with that identity (Server.UUID) is accepted.
// NewReader does not connect.
func NewReader(cfg Config, name, wantServer string) *Reader {
	return &Reader{cfg: cfg, name: name, want: wantServer}
}

// Name implements pipeline.Reader.
func (r *Reader) Name() string { return r.name }

// Ask asks the server what it shows, connecting first where there is no
// connection. After an error the next Ask connects anew. It returns when ctx
// ends, and after 5 s without an answer at the latest; connecting may take
// another 5 s, and on MariaDB so may the first answer of a connection, which is
// that all is visible that was written before it. Where another server answers
// than the expected one, that is an error. It is not safe for concurrent use.
func (r *Reader) Ask(ctx context.Context) (pipeline.View, error) {
	v, err := r.ask(ctx)
	if err != nil {
		r.Close()
		return pipeline.View{}, fmt.Errorf("ask reader %s: %w", r.name, err)
	}
	return v, nil
}

func (r *Reader) ask(ctx context.Context) (pipeline.View, error) {
	if r.sess == nil {
		if err := r.open(ctx); err != nil {
			return pipeline.View{}, err
		}
	}
	v, err := r.view.ask(ctx, r.sess, r.srv)
	if err == nil && r.want != "" && !strings.EqualFold(v.Server, r.want) {
		err = fmt.Errorf("%w: %s is %s, not %s as expected; if the server was replaced or restored, give the new identity or none",
			errWrongServer, r.cfg.Addr, v.Server, r.want)
	}
	return v, err
}

func (r *Reader) open(ctx context.Context) error {
	sess, err := openSession(ctx, r.cfg, gateRead, mysql.CLIENT_MULTI_STATEMENTS)
	if err != nil {
		return err
	}
	srv, err := detect(ctx, sess)
	if err == nil && srv.MariaDB() {
		r.view, err = newMariadbView(ctx, sess)
	} else {
		r.view = &mysqlView{}
	}
	if err != nil {
		sess.close()
		return err
	}
	r.sess, r.srv = sess, srv
	return nil
}

// Close gives the connection back. The next Ask opens another.
func (r *Reader) Close() {
	if r.sess != nil {
		r.sess.close()
	}
	r.sess, r.view = nil, nil
}

// parsedSet is a set as a server printed it last. The same text is not parsed
// again: a set may have thousands of intervals, and is mostly the one before.
type parsedSet struct {
	text string
	set  gtid.Set
}

func (p *parsedSet) read(text string) (gtid.Set, error) {
	if text == p.text {
		return p.set, nil
	}
	set, err := gtid.Parse(text)
	if err != nil {
		return gtid.Set{}, err
	}
	p.text, p.set = strings.Clone(text), set
	return set, nil
}

// mysqlView is a MySQL server's gtid_executed. A transaction enters it once its
// engine commit is done, on a replica with parallel workers too, in whatever
// order they commit.
type mysqlView struct{ executed parsedSet }

// ask reads the identity in the same statement: behind an SQL proxy each
// statement may reach another server.
func (v *mysqlView) ask(ctx context.Context, s *session, _ Server) (pipeline.View, error) {
	res, err := s.execute(ctx, "SELECT @@server_uuid, @@GLOBAL.gtid_executed")
	if err != nil {
		return pipeline.View{}, err
	}
	defer res.Close()
	server, err := res.GetString(0, 0)
	if err != nil {
		return pipeline.View{}, err
	}
	text, err := res.GetString(0, 1)
	if err != nil {
		return pipeline.View{}, err
	}
	set, err := v.executed.read(text)
	return pipeline.View{Server: strings.Clone(server), Shown: set, Written: set}, err
}
