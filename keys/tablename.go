package keys

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A name glob is one half of a rule's table: * any characters, ? one
// character, \x the character x.

// parseTable splits a rule's table into its two name globs.
func parseTable(s string) (db, table string, err error) {
	db, rest, err := cutName(s)
	if err != nil {
		return "", "", err
	}
	if !strings.HasPrefix(rest, ".") {
		return "", "", errors.New("write database.table")
	}
	table, rest, err = cutName(rest[1:])
	if err != nil {
		return "", "", err
	}
	if rest != "" {
		return "", "", fmt.Errorf("unexpected %q: write database.table, and a name with other characters than letters, digits, _ and $ in backticks", rest)
	}
	return db, table, nil
}

// cutName takes one name off the start of s: in backticks literally, else with
// globs.
func cutName(s string) (glob, rest string, err error) {
	if strings.HasPrefix(s, "`") {
		name, rest, err := cutQuoted(s)
		return nameQuoter.Replace(name), rest, err
	}
	end := len(s)
	for i, r := range s {
		if !plainNameRune(r) && r != '*' && r != '?' && r != '-' {
			end = i
			break
		}
	}
	if end == 0 {
		return "", "", errors.New("a name is missing: write database.table")
	}
	return s[:end], s[end:], nil
}

var nameQuoter = strings.NewReplacer("*", `\*`, "?", `\?`, `\`, `\\`)

func nameTokens(glob string) []token {
	var toks []token
	for i := 0; i < len(glob); {
		r, n := utf8.DecodeRuneInString(glob[i:])
		if r == '\\' && i+1 < len(glob) {
			i += n
			r, n = utf8.DecodeRuneInString(glob[i:])
			toks = append(toks, one(r))
		} else if r == '*' {
			toks = append(toks, token{star: true, set: anything})
		} else if r == '?' {
			toks = append(toks, token{set: anything})
		} else {
			toks = append(toks, one(r))
		}
		i += n
	}
	return toks
}

// matchName reports whether name matches the tokens of a name glob, whole.
func matchName(toks []token, name string) bool {
	star, mark := -1, 0 // last star, and how far it reaches
	i, k := 0, 0
	for k < len(name) {
		r, n := utf8.DecodeRuneInString(name[k:])
		switch {
		case i < len(toks) && toks[i].star:
			star, mark = i, k
			i++
		case i < len(toks) && toks[i].set[0].lo <= r && r <= toks[i].set[0].hi:
			i++
			k += n
		case star >= 0:
			_, n = utf8.DecodeRuneInString(name[mark:])
			mark += n
			i, k = star+1, mark
		default:
			return false
		}
	}
	for i < len(toks) && toks[i].star {
		i++
	}
	return i == len(toks)
}
