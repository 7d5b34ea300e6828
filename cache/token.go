package cache

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// Seen is a token: it stands for the transactions that its holder has seen, by
// having written them or by having read what they left. It is text that fits a
// cookie, a header or a URL as it is (letters, digits, - and _), and its content
// is nobody's business. "" is none: its holder has seen nothing.
//
// It is made by [Token], by [Client.Get] with each value, and by [Merge], and it
// is of use to [Client.GetAfter] and [Client.WaitInvalidated].
type Seen string

// MaxSeen is the length of the longest token, in bytes: a cookie of 4,096 bytes
// must hold it with its name and attributes. It is room for about 90 servers
// (server_uuid's and tags) whose transactions have no holes, at about 30 bytes
// each, or for about 1,000 holes.
const MaxSeen = 3000

// ErrSeenTooLong says that a set of transactions needs a token longer than
// [MaxSeen]. Nothing may be left out of a token, and nothing put in (a hole that
// never fills would be waited for without end), so there is none. A source whose
// gtid_executed is that long can be mended: see docs/read-your-writes.md.
var ErrSeenTooLong = fmt.Errorf("the set of transactions needs a token of more than %d bytes", MaxSeen)

// ErrSeen says that text is not a token.
var ErrSeen = errors.New("not a token")

// NewSeen returns the token of a GTID set in the server's own notation, for
// applications whose driver hands out the GTID of a commit.
func NewSeen(gtids string) (Seen, error) {
	set, err := gtid.Parse(gtids)
	if err != nil {
		return "", err
	}
	return seenOf(set)
}

func seenOf(set gtid.Set) (Seen, error) {
	if set.Empty() {
		return "", nil
	}
	b, err := set.MarshalBinary()
	if err != nil {
		return "", err
	}
	if base64.RawURLEncoding.EncodedLen(len(b)) > MaxSeen {
		return "", ErrSeenTooLong
	}
	return Seen(base64.RawURLEncoding.EncodeToString(b)), nil
}

// ParseSeen checks text that came from outside. Its error is [ErrSeen].
func ParseSeen(text string) (Seen, error) {
	_, err := Seen(text).Set()
	return Seen(text), err
}

// Set returns the transactions of the token. Its error is [ErrSeen].
func (s Seen) Set() (set gtid.Set, err error) {
	if s == "" {
		return set, nil
	}
	// The decoder leaves out line breaks, which have no place in a header.
	if len(s) > MaxSeen || strings.ContainsAny(string(s), "\r\n") {
		return set, ErrSeen
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(string(s))
	if err == nil {
		err = set.UnmarshalBinary(b)
	}
	if err != nil || set.Empty() {
		return gtid.Set{}, ErrSeen
	}
	return set, nil
}

// Merge returns the token of everything that any of the given ones has seen. Its
// error is [ErrSeen] or [ErrSeenTooLong].
func Merge(tokens ...Seen) (Seen, error) {
	var all gtid.Set
	for _, s := range tokens {
		set, err := s.Set()
		if err != nil {
			return "", err
		}
		all.Union(set)
	}
	return seenOf(all)
}

// Queryer is what a token is asked of: a *sql.DB, a *sql.Conn, or the like.
type Queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Token returns a token of everything that the server has committed until now. It
// is called after a commit has returned, on the server that the transaction was
// committed on (the primary): then the token holds the transaction, and others
// that were committed before. It must not be asked of a replica, which may not
// have the transaction yet, nor through an address that may lead to one.
//
// It costs one round trip. On a server without GTIDs it is an error.
func Token(ctx context.Context, q Queryer) (Seen, error) {
	set, err := executed(ctx, q)
	if err != nil {
		return "", fmt.Errorf("read a token after the commit: %w", err)
	}
	s, err := seenOf(set)
	if err == nil && s == "" {
		err = errors.New("the server has no GTIDs: is gtid_mode on?")
	}
	if err != nil {
		return "", fmt.Errorf("read a token after the commit: %w", err)
	}
	return s, nil
}

// executedSQL asks either server in one round trip: MySQL takes the first comment
// for code, MariaDB the second (it leaves out those of MySQL 5.7 and later). On
// MariaDB gtid_binlog_pos may be ahead of what reads see; for waiting that is
// right, since whoever reads it after a commit returned wants that commit in it.
const executedSQL = "SELECT /*!50700 @@GLOBAL.gtid_executed */ /*M! @@GLOBAL.gtid_binlog_pos */"

// executed returns a set that holds every transaction whose commit has returned.
func executed(ctx context.Context, q Queryer) (gtid.Set, error) {
	var text sql.NullString
	if err := q.QueryRowContext(ctx, executedSQL).Scan(&text); err != nil {
		return gtid.Set{}, err
	}
	return gtid.Parse(text.String)
}
