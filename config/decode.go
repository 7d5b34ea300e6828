package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/doubletap-cdc/doubletap/internal/nearest"
)

// notHere are settings that people may look for: they get a clearer answer than
// "unknown".
var notHere = map[string]string{
	"second_delete.jitter": "not supported in this version (spread second deletes)",
	"redis.wait":           "not supported in this version (waiting for Redis replicas)",
	"redis.after_failover": "not supported in this version (deletes that are repeated after a failover)",
	"verify":               "not supported in this version (the verify command)",
	"cache":                "the cache client is configured in the application that uses it: cache.Options",
	"replay":               "the replay command has flags instead: replay -h",
}

// decode parses src into c and reports whether the file is YAML of the right
// overall shape, so that checking values makes sense.
func (l *loader) decode(src []byte, c *Config) bool {
	doc, err := parse(src)
	if err != nil {
		l.syntaxError(err, src)
		return false
	}
	switch {
	case len(doc.Docs) > 1 && doc.Docs[1].Body != nil:
		l.problemAt(doc.Docs[1].Body.GetToken().Position.Line, "", "a second document begins here; the configuration is one document")
		return false
	case len(doc.Docs) == 0 || doc.Docs[0].Body == nil:
		l.problemAt(0, "", "the file is empty; config.example.yaml is a start")
		return false
	}
	root, ok := doc.Docs[0].Body.(*ast.MappingNode)
	if !ok {
		l.problemAt(1, "", "the file is not a mapping of sections (source:, log:, redis:, …)")
		return false
	}
	l.section(root, reflect.ValueOf(c).Elem(), "")
	return true
}

// parse guards against a parser that panics on strange input.
func parse(src []byte) (f *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("the file is not valid YAML")
		}
	}()
	return parser.ParseBytes(src, 0, parser.AllowDuplicateMapKey())
}

// syntaxError reports what the parser says, without the lines of the file that
// it would print: they may hold secrets.
func (l *loader) syntaxError(err error, src []byte) {
	e, ok := errors.AsType[yaml.Error](err)
	if !ok || e.GetToken() == nil {
		l.problemAt(0, "", "%v", err)
		return
	}
	line := e.GetToken().Position.Line
	hint := ""
	if lines := strings.Split(string(src), "\n"); line <= len(lines) && strings.Contains(lines[line-1], "${") {
		hint = `; between { and } a variable is written in quotes: "${NAME}"`
	}
	l.problemAt(line, "", "not valid YAML: %s%s", e.GetMessage(), hint)
}

// section decodes a mapping into the struct v.
func (l *loader) section(m *ast.MappingNode, v reflect.Value, path string) {
	seen := map[string]int{}
	for _, kv := range m.Values {
		tok := kv.Key.GetToken()
		name, line := tok.Value, tok.Position.Line
		field := join(path, name)
		if _, ok := kv.Key.(*ast.StringNode); !ok {
			l.problemAt(line, "", "%q is not the name of a setting", name)
			continue
		}
		if first, dup := seen[name]; dup {
			l.problemAt(line, "", "%s is already set in line %d", field, first)
			continue
		}
		seen[name] = line
		l.lines[field] = line
		f, kind, ok := fieldByName(v, name)
		if !ok {
			l.unknown(v.Type(), path, name)
			continue
		}
		l.value(kv.Value, f, field, kind)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func (l *loader) unknown(t reflect.Type, path, name string) {
	field := join(path, name)
	if answer, ok := notHere[field]; ok {
		l.problem(field, "%s", answer)
		return
	}
	text := "unknown setting"
	if near := nearest.Name(name, fieldNames(t)); near != "" {
		text += fmt.Sprintf("; did you mean %s?", near)
	} else if at := elsewhere(reflect.TypeFor[Config](), "", name); at != "" {
		text += fmt.Sprintf("; did you mean %s?", at)
	} else {
		text += fmt.Sprintf("; known here: %s", strings.Join(fieldNames(t), ", "))
	}
	l.problem(field, "%s", text)
}

// value decodes one value into v.
func (l *loader) value(n ast.Node, v reflect.Value, field, kind string) {
	switch n.(type) {
	case *ast.NullNode: // "name:" without a value is the default
		return
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		l.problem(field, "YAML anchors, aliases and tags are not supported here; write the value itself")
		return
	}
	switch {
	case v.Kind() == reflect.Pointer:
		l.optional(n, v, field)
	case v.Kind() == reflect.Slice:
		l.list(n, v, field)
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[Secret]():
		if m, ok := n.(*ast.MappingNode); ok {
			l.section(m, v, field)
		} else {
			l.problem(field, "this is a section: its settings are expected here, as name: value")
		}
	default:
		if text, ok := l.scalar(n, field, "one value"); ok {
			l.assign(v, field, kind, text, n)
		}
	}
}

// optional decodes a section that need not be there: v is a pointer to a struct.
func (l *loader) optional(n ast.Node, v reflect.Value, field string) {
	p := reflect.New(v.Type().Elem())
	if d, ok := p.Interface().(defaulter); ok {
		d.setDefaults()
	}
	l.value(n, p.Elem(), field, "")
	v.Set(p)
}

// element is the name of a list's element in messages.
func element(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

func (l *loader) list(n ast.Node, v reflect.Value, field string) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		l.problem(field, "this is a list: write [a, b], also for a single value")
		return
	}
	list := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		at := element(field, i)
		l.lines[at] = item.GetToken().Position.Line
		l.element(item, list.Index(i), field, at)
	}
	v.Set(list)
}

// element decodes one value of a list. A section in a list may be written as the
// value of its first setting alone.
func (l *loader) element(n ast.Node, v reflect.Value, field, at string) {
	want := "one plain value"
	if v.Kind() == reflect.Struct {
		if m, ok := n.(*ast.MappingNode); ok {
			l.section(m, v, at)
			return
		}
		want = "an address, or a mapping of settings,"
		v = v.Field(0)
	}
	text, ok := l.scalar(n, at, want)
	l.bad[field] = l.bad[field] || !ok
	v.SetString(text)
}

// scalar returns the text of a value as written, variables replaced.
func (l *loader) scalar(n ast.Node, field, want string) (string, bool) {
	var text string
	switch n := n.(type) {
	case *ast.StringNode:
		text = n.Value
	case *ast.LiteralNode:
		text = n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		text = n.GetToken().Value
	default:
		l.problem(field, "%s is expected here", want)
		return "", false
	}
	text, err := expand(text, l.env)
	if err != nil {
		l.problem(field, "%v", err)
		return "", false
	}
	return text, true
}

// assign converts text to the kind of v. It never puts a Secret's text in a message.
func (l *loader) assign(v reflect.Value, field, kind, text string, n ast.Node) {
	switch p := v.Addr().Interface().(type) {
	case *Secret:
		*p = Secret{text}
		if literal := n.GetToken().Value; l.exposed && literal != "" && !strings.Contains(literal, "${") {
			l.warn(field, "the password stands in a file that every user of this machine can read; chmod o-r the file, or use password_file or ${NAME}")
		}
	case *string:
		if kind == "path" && text != "" && !filepath.IsAbs(text) {
			text = filepath.Join(l.dir, text)
		}
		*p = text
	case *int:
		i, err := strconv.Atoi(text)
		if err != nil {
			l.problem(field, "%q is not a whole number", text)
		}
		*p = i
	case *uint32:
		i, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			l.problem(field, "%q is not a whole number from 0 to 4294967295", text)
		}
		*p = uint32(i)
	case *bool:
		on, ok := map[string]bool{"on": true, "true": true, "off": false, "false": false}[strings.ToLower(text)]
		if !ok {
			l.problem(field, "%q is neither on nor off", text)
		}
		*p = on
	case *time.Duration:
		d, err := parseDuration(text)
		if err != nil {
			l.problem(field, "%q is not a duration such as 500ms, 1s, 2h30m or 7d", text)
		}
		*p = d
	default:
		panic("config: no decoding for " + v.Type().String())
	}
}

// parseDuration is time.ParseDuration with whole days besides.
func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}
