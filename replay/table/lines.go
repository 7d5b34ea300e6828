package table

import (
	"bufio"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/doubletap-cdc/doubletap/keys"
)

// asked is one row that is asked for.
type asked struct {
	line  int64
	texts []string // of its key, canonical
	where string
}

// lines reads keys from a file, and keeps a cursor behind what it has read.
type lines struct {
	r   *bufio.Reader
	at  *rowsCursor
	key *key
}

func newLines(r io.Reader, at *rowsCursor, k *key) *lines {
	return &lines{r: bufio.NewReaderSize(r, 64<<10), at: at, key: k}
}

// take returns up to n rows, and whether they are the last.
func (l *lines) take(n int) (rows []asked, last bool, err error) {
	for len(rows) < n {
		one, err := l.next()
		if err == io.EOF {
			return rows, true, nil
		}
		if err != nil {
			return nil, false, err
		}
		if one != nil {
			rows = append(rows, *one)
		}
	}
	return rows, false, nil
}

// next reads a line: nil where it asks for no row, io.EOF at the end.
func (l *lines) next() (*asked, error) {
	text, err := l.r.ReadString('\n')
	if text == "" && err != nil {
		if err == io.EOF {
			return nil, err
		}
		return nil, fmt.Errorf("read primary keys: %w", err)
	}
	l.at.Offset += int64(len(text))
	l.at.Line++
	text = strings.TrimRight(text, "\r\n")
	if l.at.Line == 1 {
		text = strings.TrimPrefix(text, "\ufeff")
	}
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	one := &asked{line: l.at.Line}
	err = l.parse(one, text)
	if err != nil {
		if l.at.Line == 1 && l.header(text) {
			return nil, nil
		}
		return nil, fmt.Errorf("line %d: %w; a line is the key (%s) of one row, as in %s", l.at.Line, err, strings.Join(l.key.names(), ", "), l.key.example())
	}
	if l.at.Line == 1 && l.header(text) {
		return nil, nil
	}
	return one, nil
}

// header says whether the line has the columns' names.
func (l *lines) header(text string) bool {
	fields, err := l.key.split(text)
	if err != nil || len(fields) != len(l.key.columns) {
		return false
	}
	for i, c := range l.key.columns {
		if !strings.EqualFold(strings.TrimSpace(fields[i]), c.name) {
			return false
		}
	}
	return true
}

func (k *key) example() string {
	if len(k.columns) == 1 {
		return `42 or ["42"]`
	}
	return `42,tea or [42, "tea"]`
}

func (l *lines) parse(one *asked, text string) error {
	if len(text) > maxLine {
		return fmt.Errorf("it has %d bytes", len(text))
	}
	if !utf8.ValidString(text) {
		return errors.New("it is not UTF-8")
	}
	fields, err := l.key.split(text)
	if err != nil {
		return err
	}
	if len(fields) != len(l.key.columns) {
		return fmt.Errorf("it has %d values, the key has %d columns", len(fields), len(l.key.columns))
	}
	conds := make([]string, len(fields))
	for i, c := range l.key.columns {
		if fields[i], err = c.canonical(fields[i]); err != nil {
			return fmt.Errorf("column %s: %w", c.name, err)
		}
		conds[i] = backtick(c.name) + " = " + c.given(fields[i])
	}
	one.texts, one.where = fields, strings.Join(conds, " AND ")
	return nil
}

// split cuts a line into values.
func (k *key) split(text string) ([]string, error) {
	trimmed := strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(trimmed, "["):
		return splitJSON(trimmed)
	case len(k.columns) == 1 && !strings.HasPrefix(text, `"`):
		return []string{text}, nil
	}
	r := csv.NewReader(strings.NewReader(text))
	if strings.Contains(text, "\t") {
		r.Comma = '\t'
	}
	fields, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("its quotes are not as CSV has them: %w", errors.Unwrap(err))
	}
	return fields, nil
}

func splitJSON(text string) ([]string, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var values []any
	if err := d.Decode(&values); err != nil || d.More() {
		return nil, errors.New("it begins with [ and is no JSON array")
	}
	fields := make([]string, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case string:
			fields[i] = v
		case json.Number:
			fields[i] = v.String()
		default:
			return nil, fmt.Errorf("value %d is neither a text nor a number", i+1)
		}
	}
	return fields, nil
}

var (
	integerText = regexp.MustCompile(`^[+-]?\d{1,20}$`)
	dayText     = regexp.MustCompile(`^\d{4}-\d\d-\d\d$`)
	momentText  = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?$`)
	clockText   = regexp.MustCompile(`^-?\d{2,3}:\d\d:\d\d(\.\d{1,6})?$`)
	digitsOf    = regexp.MustCompile(`\((\d)\)`)
)

// canonical makes the canonical text of a value that somebody gives.
func (c *column) canonical(v string) (string, error) {
	bad := func(what string) (string, error) { return "", fmt.Errorf("%q is not %s", v, what) }
	if cl := classOf(c); cl == number || cl == moment {
		v = strings.TrimSpace(v)
	}
	switch {
	case c.typ == "decimal":
		text, err := keys.Decimal(v, c.scale)
		if err != nil {
			return bad(fmt.Sprintf("a number with at most %d digits after the point", c.scale))
		}
		return text, nil
	case classOf(c) == number:
		n, ok := new(big.Int).SetString(strings.TrimPrefix(v, "+"), 10)
		if !ok || !integerText.MatchString(v) {
			return bad("an integer")
		}
		return n.String(), nil
	case classOf(c) == octets:
		b, err := hex.DecodeString(strings.TrimPrefix(strings.ToLower(v), "0x"))
		if err != nil {
			return bad("hex digits, which values of this type are given as")
		}
		if c.typ == "binary" && len(b) < c.width {
			b = append(b, make([]byte, c.width-len(b))...)
		}
		return hex.EncodeToString(b), nil
	case c.typ == "char":
		return strings.TrimRight(v, " "), nil
	case c.typ == "date" && !dayText.MatchString(v):
		return bad("a day such as 2026-03-01")
	case c.typ == "time" && !clockText.MatchString(v):
		return bad("a time such as 12:30:00")
	case (c.typ == "datetime" || c.typ == "timestamp") && !momentText.MatchString(v):
		return bad("a time such as 2026-03-01 12:30:00, in UTC if it is a TIMESTAMP")
	case c.typ == "time" || c.typ == "datetime" || c.typ == "timestamp":
		return c.fraction(v)
	}
	return v, nil
}

// fraction gives a time as many digits as the column has.
func (c *column) fraction(v string) (string, error) {
	digits := 0
	if m := digitsOf.FindStringSubmatch(c.full); m != nil {
		digits, _ = strconv.Atoi(m[1])
	}
	whole, have, _ := strings.Cut(v, ".")
	if have = strings.TrimRight(have, "0"); len(have) > digits {
		return "", fmt.Errorf("%q has more digits after the point than the column's %d", v, digits)
	}
	if digits == 0 {
		return whole, nil
	}
	return whole + "." + have + strings.Repeat("0", digits-len(have)), nil
}

// given makes SQL of canonical text that somebody gave. The server converts it to
// the column's character set, so that the index serves; what has no form there can
// be in no row.
func (c *column) given(v string) string {
	switch cl := classOf(c); {
	case cl == octets:
		return "X'" + v + "'"
	case cl == number || cl == moment:
		return c.literal([]byte(v))
	case c.charset == "utf8mb4":
		return quote(v)
	}
	return "CONVERT(" + quote(v) + " USING " + c.charset + ") COLLATE " + c.collation
}
