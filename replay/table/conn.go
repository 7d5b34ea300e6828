package table

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Conn is one SQL session. It is used by one goroutine at a time.
type Conn interface {
	// Query runs one statement and calls row for each row of its result. A nil value
	// is NULL, others are as the server prints them; they are valid until row
	// returns. After an error of row, or the end of ctx, the session is of no more
	// use. An error of the server is or wraps a *mysql.MyError.
	Query(ctx context.Context, sql string, row func(values [][]byte) error) error
	Close() error
}

// SQL makes what Deps.Connect needs of a function that opens go-mysql's
// connections, such as binlog.Connect with a configuration. It expects what that
// sets up: character set utf8mb4, and an empty sql_mode.
func SQL(connect func(context.Context) (*client.Conn, error)) func(context.Context) (Conn, error) {
	return func(ctx context.Context) (Conn, error) {
		c, err := connect(ctx)
		if err != nil {
			return nil, err
		}
		s := &session{conn: c}
		for _, sql := range sessionSQL {
			if err := s.Query(ctx, sql, nil); err != nil && serverCode(err) != codeUnknownVariable {
				_ = s.Close()
				return nil, fmt.Errorf("set up the session: %w", err)
			}
		}
		return s, nil
	}
}

// sessionSQL makes the text of every value the canonical one, and makes sure that
// nothing is changed or seen before it is committed, whatever the server's
// defaults are and whatever a condition calls. A server ignores what it does not
// have: the last two are MySQL's only.
var sessionSQL = []string{
	"SET SESSION time_zone = '+00:00', autocommit = 1, sql_select_limit = DEFAULT, sql_big_selects = 1",
	"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
	"SET SESSION TRANSACTION READ ONLY",
	"SET SESSION information_schema_stats_expiry = 0",
	"SET SESSION show_gipk_in_create_table_and_information_schema = ON",
}

// session is a Conn of go-mysql. The text protocol is used: it needs no prepared
// statement, and its rows need no memory of their own.
type session struct {
	conn   *client.Conn
	values [][]byte
	digits []byte
}

func (s *session) Close() error { return s.conn.Close() }

// none is an empty value, which is not NULL.
var none = []byte{}

func (s *session) Query(ctx context.Context, sql string, row func([][]byte) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// The inner connection: the outer Close writes fields that a reader uses.
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Conn.Conn.Close() })
	var res mysql.Result
	err := s.conn.ExecuteSelectStreaming(sql, &res, func(fields []mysql.FieldValue) error {
		if row == nil {
			return nil
		}
		return row(s.texts(fields))
	}, nil)
	if !stop() && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// texts undoes what the library makes of integers: leading zeros of ZEROFILL are
// lost on the way, which is what canonical text needs anyway.
func (s *session) texts(fields []mysql.FieldValue) [][]byte {
	s.values, s.digits = s.values[:0], s.digits[:0]
	for i := range fields {
		f, from := &fields[i], len(s.digits)
		switch f.Type {
		case mysql.FieldValueTypeNull:
			s.values = append(s.values, nil)
			continue
		case mysql.FieldValueTypeUnsigned:
			s.digits = strconv.AppendUint(s.digits, f.AsUint64(), 10)
		case mysql.FieldValueTypeSigned:
			s.digits = strconv.AppendInt(s.digits, f.AsInt64(), 10)
		case mysql.FieldValueTypeFloat:
			s.digits = strconv.AppendFloat(s.digits, f.AsFloat64(), 'g', -1, 64)
		default:
			if v := f.AsString(); v != nil {
				s.values = append(s.values, v)
			} else {
				s.values = append(s.values, none)
			}
			continue
		}
		// A later append may move the digits; this slice keeps what it has.
		s.values = append(s.values, s.digits[from:len(s.digits):len(s.digits)])
	}
	return s.values
}

// Error numbers of the server.
const codeUnknownVariable = 1193

// passing are errors of the server that another try may not meet: too many
// connections, a shutdown, a lock or a statement that took too long or was
// killed, a table that was altered since the transaction began.
var passing = map[uint16]bool{
	1040: true, 1053: true, 1080: true, 1152: true, 1158: true, 1159: true, 1160: true, 1161: true, 1203: true, 1205: true, 1213: true,
	1226: true, 1317: true, 1412: true, 1927: true, 1969: true, 3024: true, 3168: true, 3169: true, 4031: true,
}

// lasting wraps pipeline.ErrFatal around errors of the server that no other try
// will mend.
func lasting(err error) error {
	if code := serverCode(err); code != 0 && !passing[code] && !errors.Is(err, pipeline.ErrFatal) {
		return fmt.Errorf("%w: %w", err, pipeline.ErrFatal)
	}
	return err
}

// serverCode returns the server's error number, 0 if err is not from a server.
func serverCode(err error) uint16 {
	if e, ok := errors.AsType[*mysql.MyError](err); ok {
		return e.Code
	}
	return 0
}
