package keys

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser/lexer"
)

// fromSQL rewrites what SQL writes differently, outside quotes and comments,
// and returns the tokens joined as the condition's canonical form.
func fromSQL(src string) (text, canonical string, err error) {
	toks, err := lexer.Lex(file.NewSource(src))
	if err != nil {
		return "", "", exprError(err)
	}
	rewritten := rewriteTokens(toks)
	runes := []rune(src)
	var out, canon strings.Builder
	at := 0
	for i, t := range toks {
		if t.Kind == lexer.EOF {
			break
		}
		if t.Kind == lexer.String && runes[t.From] == '`' {
			return "", "", fmt.Errorf("backticks make a text here, not a column: write %s without them, or after[%q]", t.Value, t.Value)
		}
		if t.Is(lexer.Operator, "let") {
			return "", "", errors.New("let is not supported in a condition")
		}
		piece, meaning := string(runes[t.From:t.To]), t.Value
		switch with, ok := rewritten[i]; {
		case ok:
			piece, meaning = with, with
		case t.Kind == lexer.String:
			meaning = strconv.Quote(t.Value)
		case t.Kind == lexer.Identifier:
			meaning = strings.ToLower(t.Value)
		}
		out.WriteString(string(runes[at:t.From]) + piece)
		at = t.To
		if meaning != "" {
			canon.WriteString(meaning + "\n")
		}
	}
	out.WriteString(string(runes[at:]))
	return out.String(), canon.String(), nil
}

// rewriteTokens returns replacements by token index.
func rewriteTokens(toks []lexer.Token) map[int]string {
	to := map[int]string{}
	word := func(i int, w string) bool {
		return i < len(toks) && toks[i].Kind != lexer.String && strings.EqualFold(toks[i].Value, w)
	}
	for i, t := range toks {
		switch {
		case t.Is(lexer.Operator, "="):
			to[i] = "=="
		case t.Is(lexer.Operator, "<") && i+1 < len(toks) && toks[i+1].Is(lexer.Operator, ">") && toks[i+1].From == t.To:
			to[i], to[i+1] = "!=", ""
		case i > 0 && toks[i-1].Is(lexer.Operator, ".", "?."): // a column's name
		case word(i, "is") && word(i+1, "null"):
			to[i], to[i+1] = "==", "nil"
		case word(i, "is") && word(i+1, "not") && word(i+2, "null"):
			to[i], to[i+1], to[i+2] = "!=", "", "nil"
		case word(i, "and"), word(i, "or"), word(i, "not"), word(i, "true"), word(i, "false"):
			if _, done := to[i]; !done {
				to[i] = strings.ToLower(t.Value)
			}
		case word(i, "null"):
			to[i] = "nil"
		case word(i, "in"):
			to[i] = "in"
			if i+1 < len(toks) && toks[i+1].Is(lexer.Bracket, "(") {
				bracketList(toks, i+1, to)
			}
		}
	}
	return to
}

// bracketList turns the parentheses that open at token i into brackets.
func bracketList(toks []lexer.Token, i int, to map[int]string) {
	depth := 0
	for k := i; k < len(toks); k++ {
		switch {
		case toks[k].Is(lexer.Bracket, "("):
			depth++
		case toks[k].Is(lexer.Bracket, ")"):
			depth--
			if depth == 0 {
				to[i], to[k] = "[", "]"
				return
			}
		}
	}
}
