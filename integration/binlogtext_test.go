package integration

import (
	"bufio"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// rowChange is one row change as mysqlbinlog prints it.
type rowChange struct {
	gtid      string
	committed int64 // µs; a lower bound of when the change became visible
	position  string
	db, table string
	before    []string // raw text by column; nil for an insert
	after     []string // nil for a delete
}

// binlogReader parses the output of mysqlbinlog, or mariadb-binlog, --verbose --verbose --base64-output=decode-rows.
type binlogReader struct {
	row  func(rowChange) error
	file string
	cur  rowChange
	into *[]string
	open bool
}

var (
	gtidNext   = regexp.MustCompile(`^SET @@SESSION\.GTID_NEXT= '([^']*)'`)
	commitTime = regexp.MustCompile(`^# immediate_commit_timestamp=(\d+)`)
	mariaGTID  = regexp.MustCompile(`^#(\d{6}\s+[\d:]+) server id .*\sGTID (\d+-\d+-\d+)`)
	rotate     = regexp.MustCompile(`\sRotate to (\S+)`)
	rowHead    = regexp.MustCompile("^### (INSERT INTO|UPDATE|DELETE FROM) `(.*)`\\.`(.*)`$")
)

// read calls row for every row change, in order.
func (p *binlogReader) read(r io.Reader) error {
	in := bufio.NewReaderSize(r, 1<<20)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			if err := p.line(strings.TrimSuffix(line, "\n")); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return p.flush()
		}
		if err != nil {
			return err
		}
	}
}

func (p *binlogReader) line(line string) error {
	if !strings.HasPrefix(line, "###") {
		return p.other(line)
	}
	if strings.HasPrefix(line, "###   @") {
		return p.value(line)
	}
	if m := rowHead.FindStringSubmatch(line); m != nil {
		if err := p.flush(); err != nil {
			return err
		}
		p.open = true
		p.cur.db, p.cur.table = m[2], m[3]
		p.cur.before, p.cur.after = nil, nil
		return nil
	}
	switch line {
	case "### WHERE":
		p.into = &p.cur.before
		return nil
	case "### SET":
		p.into = &p.cur.after
		return nil
	}
	return fmt.Errorf("cannot read this line of mysqlbinlog: %q", line)
}

// value reads ###   @1=17 /* INT meta=0 nullable=0 is_null=0 */.
func (p *binlogReader) value(line string) error {
	number, value, ok := strings.Cut(strings.TrimPrefix(line, "###   @"), "=")
	if !ok || p.into == nil {
		return fmt.Errorf("cannot read this line of mysqlbinlog: %q", line)
	}
	if n, _ := strconv.Atoi(number); n != len(*p.into)+1 {
		return fmt.Errorf("column @%s comes after %d columns: not a full row image", number, len(*p.into))
	}
	if i := strings.LastIndex(value, " /* "); i >= 0 { // the column's type
		value = value[:i]
	}
	*p.into = append(*p.into, value)
	return nil
}

func (p *binlogReader) other(line string) error {
	if err := p.flush(); err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(line, "# at "):
		p.cur.position = p.file + ":" + line[len("# at "):]
	case strings.HasPrefix(line, "# immediate"):
		if m := commitTime.FindStringSubmatch(line); m != nil {
			p.cur.committed, _ = strconv.ParseInt(m[1], 10, 64)
		}
	case strings.HasPrefix(line, "SET @@SESSION.GTID"):
		if m := gtidNext.FindStringSubmatch(line); m != nil {
			p.cur.gtid = m[1]
		}
	case strings.HasPrefix(line, "#"):
		if m := rotate.FindStringSubmatch(line); m != nil {
			p.file = m[1]
		}
		if m := mariaGTID.FindStringSubmatch(line); m != nil {
			when, err := time.ParseInLocation("060102 15:04:05", strings.Join(strings.Fields(m[1]), " "), time.Local)
			if err != nil {
				return err
			}
			p.cur.gtid, p.cur.committed = m[2], when.UnixMicro()
		}
	}
	return nil
}

func (p *binlogReader) flush() error {
	if !p.open {
		return nil
	}
	p.open, p.into = false, nil
	return p.row(p.cur)
}

// imageOf makes canonical text of a row image's raw texts.
func imageOf(t *table, raw []string, unquote func(string) (string, error)) (image, error) {
	if raw == nil {
		return nil, nil
	}
	if len(raw) != len(t.columns) {
		return nil, fmt.Errorf("table %s has %d columns, the row image %d", t.name, len(t.columns), len(raw))
	}
	img := image{}
	for i, c := range t.columns {
		if raw[i] == "NULL" {
			continue
		}
		text, err := c.canonical(raw[i], unquote)
		if err != nil {
			return nil, fmt.Errorf("column %s.%s = %s: %w", t.name, c.name, raw[i], err)
		}
		img[c.name] = text
	}
	return img, nil
}

func (c *column) canonical(raw string, unquote func(string) (string, error)) (string, error) {
	switch c.kind {
	case "int", "uint": // "-5 (251)": as a signed number, and in brackets as an unsigned one
		signed, unsigned, both := strings.Cut(strings.TrimSuffix(raw, ")"), " (")
		if c.kind == "uint" && both {
			return unsigned, nil
		}
		return signed, nil
	case "decimal":
		v, ok := new(big.Rat).SetString(raw)
		if !ok {
			return "", fmt.Errorf("not a number")
		}
		_, fraction, _ := strings.Cut(raw, ".")
		return v.FloatString(len(fraction)), nil
	case "year":
		if raw == "1900" { // what the tool makes of the year 0000: years begin with 1901
			return "0", nil
		}
		return raw, nil
	case "enum":
		n, err := strconv.Atoi(raw)
		if err != nil || n > len(c.members) {
			return "", fmt.Errorf("not a member")
		}
		if n == 0 {
			return "", nil
		}
		return c.members[n-1], nil
	case "set", "bit":
		bits, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(raw, "b'"), "'"), 2, 64)
		if err != nil || c.kind == "bit" {
			return strconv.FormatUint(bits, 10), err
		}
		var names []string
		for i, m := range c.members {
			if bits>>i&1 == 1 {
				names = append(names, m)
			}
		}
		return strings.Join(names, ","), nil
	case "timestamp":
		sec, fraction, _ := strings.Cut(raw, ".")
		n, err := strconv.ParseInt(sec, 10, 64)
		return time.Unix(n, 0).UTC().Format("2006-01-02 15:04:05.") + fraction, err
	}
	text, err := unquote(raw)
	if err != nil {
		return "", err
	}
	switch c.kind {
	case "date":
		return strings.ReplaceAll(text, ":", "-"), nil
	case "binary": // the binlog leaves out the zeros at the end of a BINARY(n)
		return fmt.Sprintf("%x", text) + strings.Repeat("00", max(0, c.size-len(text))), nil
	case "latin1": // only characters that are the same in Unicode are used
		var b strings.Builder
		for i := range len(text) {
			b.WriteRune(rune(text[i]))
		}
		return b.String(), nil
	}
	return text, nil
}

// unquoteMySQL undoes the escapes of mysqlbinlog.
func unquoteMySQL(raw string) (string, error) {
	if len(raw) < 2 || raw[0] != '\'' || raw[len(raw)-1] != '\'' {
		return "", fmt.Errorf("not in quotes")
	}
	raw = raw[1 : len(raw)-1]
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			b.WriteByte(raw[i])
			continue
		}
		i++
		if i >= len(raw) {
			return "", fmt.Errorf("ends within an escape")
		}
		switch raw[i] {
		case 'x':
			n, err := strconv.ParseUint(raw[i+1:min(i+3, len(raw))], 16, 8)
			if err != nil {
				return "", err
			}
			b.WriteByte(byte(n))
			i += 2
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'v':
			b.WriteByte('\v')
		case 'a':
			b.WriteByte('\a')
		default:
			b.WriteByte(raw[i])
		}
	}
	return b.String(), nil
}

// controlByte is the only escape of mariadb-binlog, which writes a backslash and a quote as they are.
var controlByte = regexp.MustCompile(`\\x[01][0-9a-f]`)

func unquoteMariaDB(raw string) (string, error) {
	if len(raw) < 2 || raw[0] != '\'' || raw[len(raw)-1] != '\'' {
		return "", fmt.Errorf("not in quotes")
	}
	return controlByte.ReplaceAllStringFunc(raw[1:len(raw)-1], func(escape string) string {
		n, _ := strconv.ParseUint(escape[2:], 16, 8)
		return string(rune(n))
	}), nil
}
