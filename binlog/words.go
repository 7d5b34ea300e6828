package binlog

import (
	"strings"
	"unicode/utf8"
)

// firstWords returns the first n words of a statement in upper case, comments
// left out, except that the inside of /*! ... */ and /*M! ... */ counts, as it
// does for the server. Everything that is not a word, quoted names and strings
// included, stands as "" among them.
func firstWords(sql string, n int) []string {
	words := make([]string, 0, n)
	for len(words) < n {
		sql = skipBlank(sql)
		if sql == "" {
			break
		}
		switch size := wordLen(sql); {
		case size > 0:
			words = append(words, strings.ToUpper(sql[:size]))
			sql = sql[size:]
		case sql[0] == '`' || sql[0] == '"' || sql[0] == '\'':
			sql = skipQuoted(sql)
			words = append(words, "")
		default:
			if sql[0] != ';' {
				words = append(words, "")
			}
			sql = sql[1:]
		}
	}
	return words
}

// skipBlank leaves out white space, comments, and the marks around the code in
// executable comments.
func skipBlank(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f\v\x00")
		switch {
		case strings.HasPrefix(sql, "/*!"), strings.HasPrefix(sql, "/*M!"):
			_, sql, _ = strings.Cut(sql, "!")
			sql = strings.TrimLeft(sql, "0123456789")
		case strings.HasPrefix(sql, "*/"): // the end of one
			sql = sql[2:]
		case strings.HasPrefix(sql, "/*"):
			_, rest, ok := strings.Cut(sql[2:], "*/")
			if !ok {
				return ""
			}
			sql = rest
		case strings.HasPrefix(sql, "#"), strings.HasPrefix(sql, "--") && (len(sql) == 2 || sql[2] <= ' '):
			_, sql, _ = strings.Cut(sql, "\n")
		default:
			return sql
		}
	}
}

func skipQuoted(sql string) string {
	quote := sql[0]
	for i := 1; i < len(sql); i++ {
		switch {
		case sql[i] == '\\' && quote != '`':
			i++
		case sql[i] == quote && i+1 < len(sql) && sql[i+1] == quote:
			i++
		case sql[i] == quote:
			return sql[i+1:]
		}
	}
	return ""
}

// wordByte says whether b can be part of an unquoted name.
func wordByte(b byte) bool {
	return b >= utf8.RuneSelf || b == '_' || b == '$' || '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}

func wordLen(s string) int {
	n := 0
	for n < len(s) && wordByte(s[n]) {
		n++
	}
	return n
}

// maxName is the longest name of a table, in bytes: 64 characters.
const maxName = 64 * utf8.UTFMax

// name is something in a statement that may name a table or a database.
type name struct {
	text      string
	qualifier string // the name before a dot in front of it
	qualified bool   // there is a dot in front of it
}

// eachName calls fn for everything in the text of a statement that may be a
// name, wherever it stands: comments and strings are not told apart from code,
// because which is which depends on settings that the binlog tells only in part
// (ANSI_QUOTES, NO_BACKSLASH_ESCAPES, the client's character set). So fn sees
// too many names, and never too few: every bare word, and from each backtick and
// double quote, taken as an opening one, the name up to its closing one.
func eachName(sql string, fn func(name)) {
	prev := "" // the name that ended last
	end := -1  // where it ended
	note := func(text string, from, to int) {
		n := name{text: text}
		if gap := strings.TrimSpace(sql[max(end, 0):from]); end >= 0 && gap == "." {
			n.qualified, n.qualifier = true, prev
		}
		fn(n)
		prev, end = text, to
	}
	for i := 0; i < len(sql); {
		switch b := sql[i]; {
		case b == '`' || b == '"':
			text, size := quotedName(sql[i:])
			if size == 0 {
				i++
				continue
			}
			saved, at := prev, end
			note(text, i, i+size)
			if strings.IndexFunc(text, func(r rune) bool { return r < utf8.RuneSelf && !wordByte(byte(r)) }) >= 0 {
				// It may be no name at all but what stands between two: read on inside.
				prev, end = saved, at
				i++
				continue
			}
			i += size
		case wordByte(b):
			n := wordLen(sql[i:])
			note(sql[i:i+n], i, i+n)
			i += n
		default:
			i++
		}
	}
}

// quotedName reads a name in backticks or double quotes; doubled quotes inside
// stand for one. size is 0 if there is none.
func quotedName(s string) (text string, size int) {
	quote := s[0]
	var b strings.Builder
	for i := 1; i < len(s) && b.Len() <= maxName; i++ {
		if s[i] != quote {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == quote {
			b.WriteByte(quote)
			i++
			continue
		}
		return b.String(), i + 1
	}
	return "", 0
}

// globMatch says whether s matches a pattern with * and ?, ignoring case:
// servers with lower_case_table_names write statements as they were typed.
func globMatch(pattern, s string) bool {
	return globFold(strings.ToLower(pattern), strings.ToLower(s))
}

func globFold(p, s string) bool {
	star, mark := -1, 0
	i, j := 0, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && p[i] == '?':
			_, n := utf8.DecodeRuneInString(s[j:])
			i, j = i+1, j+n
		case i < len(p) && p[i] == s[j]:
			i, j = i+1, j+1
		case star >= 0:
			_, n := utf8.DecodeRuneInString(s[mark:])
			mark += n
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(p[i:], "*") == ""
}
