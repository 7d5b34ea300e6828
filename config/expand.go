package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces ${NAME} and ${NAME:-default} in one value, and $$ by $. Any
// other $ stays. What a variable holds is not looked at again. The default, used
// where the variable is unset or empty, is taken as it is, up to the next }.
func expand(text string, env func(string) (string, bool)) (string, error) {
	var out strings.Builder
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 || i == len(text)-1 {
			out.WriteString(text)
			return out.String(), nil
		}
		out.WriteString(text[:i])
		switch text[i+1] {
		case '$':
			out.WriteByte('$')
			text = text[i+2:]
		case '{':
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				return "", errors.New("a ${ has no }; write $$ for a $ that is meant as it is")
			}
			value, err := variable(text[i+2:i+end], env)
			if err != nil {
				return "", err
			}
			out.WriteString(value)
			text = text[i+end+1:]
		default:
			out.WriteByte('$')
			text = text[i+1:]
		}
	}
}

// variable returns the value of what stands between ${ and }.
func variable(ref string, env func(string) (string, bool)) (string, error) {
	name, def, hasDefault := strings.Cut(ref, ":-")
	if !variableName.MatchString(name) {
		// What stands there is not repeated: it may be a piece of a password.
		return "", errors.New("a ${…} is neither ${NAME} nor ${NAME:-default}; write $$ for a $ that is meant as it is")
	}
	value, set := env(name)
	switch {
	case hasDefault && value == "":
		return def, nil
	case !set:
		return "", fmt.Errorf("the environment variable %s is not set; set it, or write ${%s:-default}", name, name)
	}
	return value, nil
}
