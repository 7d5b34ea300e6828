package keys

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxSource bounds a schema file in bytes.
const maxSource = 1 << 20

// Load reads and parses the schema file at path. See [Parse].
func Load(path string) (*Schema, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key schema: %w", err)
	}
	return Parse(path, src)
}

// Parse parses a schema; file is the name used in errors. All problems are
// found and joined into one error; each names file:line and, where there is
// one, the rule.
func Parse(file string, src []byte) (*Schema, error) {
	p := &schemaParser{file: file}
	root, err := p.root(src)
	if err != nil {
		return nil, err
	}
	var rules []*Rule
	if ast.Walk(p, root); len(p.problems) == 0 {
		rules = p.document(root)
	}
	if len(p.problems) > 0 {
		slices.SortStableFunc(p.problems, func(a, b problem) int { return a.line - b.line })
		errs := make([]error, len(p.problems))
		for i, pr := range p.problems {
			errs[i] = fmt.Errorf("%s:%d: %w", file, pr.line, pr.err)
		}
		return nil, errors.Join(errs...)
	}
	return newSchema(rules), nil
}

type schemaParser struct {
	file     string
	problems []problem
}

type problem struct {
	line int
	err  error
}

func (p *schemaParser) fail(line int, format string, args ...any) {
	p.problems = append(p.problems, problem{line, fmt.Errorf(format, args...)})
}

// failEach adds each of joined errors as a problem of its own.
func (p *schemaParser) failEach(line int, what string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			p.failEach(line, what, e)
		}
		return
	}
	p.fail(line, "%s%w", what, err)
}

// root parses the YAML and returns the document's mapping.
func (p *schemaParser) root(src []byte) (m *ast.MappingNode, err error) {
	defer func() {
		if r := recover(); r != nil { // a library's bug must not end an application
			m, err = nil, fmt.Errorf("%s: this is not YAML that can be read: %v", p.file, r)
		}
	}()
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	switch {
	case len(src) > maxSource:
		return nil, fmt.Errorf("%s: the key schema is longer than %d bytes", p.file, maxSource)
	case !utf8.Valid(src):
		return nil, fmt.Errorf("%s: the key schema is not valid UTF-8", p.file)
	}
	f, err := parser.ParseBytes(src, 0)
	if err != nil {
		line := 1
		message := err.Error()
		if ye := yaml.Error(nil); errors.As(err, &ye) {
			message = ye.GetMessage()
			if t := ye.GetToken(); t != nil {
				line = t.Position.Line
			}
		}
		return nil, fmt.Errorf("%s:%d: read YAML: %s", p.file, line, message)
	}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		return nil, fmt.Errorf("%s: a key schema is one YAML document with the fields version and keys", p.file)
	}
	m, ok := f.Docs[0].Body.(*ast.MappingNode)
	if !ok {
		return nil, fmt.Errorf("%s:%d: a key schema begins with the fields version and keys", p.file, lineOf(f.Docs[0].Body))
	}
	return m, nil
}

// Visit implements ast.Visitor: it refuses what would let one text mean
// different things to different YAML readers.
func (p *schemaParser) Visit(n ast.Node) ast.Visitor {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode, *ast.MappingKeyNode:
		p.fail(lineOf(n), "YAML anchors, aliases, tags, merges and complex keys are not supported: write each rule out")
	}
	return p
}

func lineOf(n ast.Node) int {
	if n == nil || n.GetToken() == nil {
		return 1
	}
	return n.GetToken().Position.Line
}

// later are fields that the design knows and this version does not.
var later = []string{"lookup"}

// fields returns a mapping's values by name and refuses unknown names. what
// names the mapping in errors.
func (p *schemaParser) fields(m *ast.MappingNode, what string, known ...string) map[string]ast.Node {
	got := map[string]ast.Node{}
	for _, v := range m.Values {
		name := v.Key.GetToken().Value
		switch {
		case slices.Contains(known, name):
			got[name] = v.Value
		case slices.Contains(later, name):
			p.fail(lineOf(v.Key), "%s%s: is not supported in this version: take it out", what, name)
		default:
			p.fail(lineOf(v.Key), "%sunknown field %q%s (known: %s)", what, name, didYouMean(name, known), strings.Join(known, ", "))
		}
	}
	return got
}

func (p *schemaParser) document(root *ast.MappingNode) []*Rule {
	fields := p.fields(root, "", "version", "keys")
	if v, ok := fields["version"]; !ok {
		p.fail(lineOf(root), "version: is missing: write version: 1")
	} else if n, ok := v.(*ast.IntegerNode); !ok || n.GetToken().Value != "1" {
		p.fail(lineOf(v), "version: must be 1")
	}
	list, ok := fields["keys"].(*ast.SequenceNode)
	if !ok || len(list.Values) == 0 {
		p.fail(lineOf(fields["keys"]), "keys: must be a list of at least one rule")
		return nil
	}
	var rules []*Rule
	var at []int
	lines := map[string]int{}
	for i, n := range list.Values {
		r := p.rule(n, i+1)
		if r == nil {
			continue
		}
		if line, dup := lines[r.name]; dup && r.name != "" {
			p.fail(lineOf(n), "rule %q: the name is already used in line %d", r.name, line)
		}
		lines[r.name] = lineOf(n)
		rules, at = append(rules, r), append(at, lineOf(n))
	}
	p.sameFills(rules, at)
	return rules
}

var ruleName = regexp.MustCompile(`^[a-z0-9_-]+$`)

// rule reads one rule. Its result is complete only if no problem was found.
func (p *schemaParser) rule(n ast.Node, number int) *Rule {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		p.fail(lineOf(n), "rule %d: must have name:, table: and key:", number)
		return nil
	}
	what := fmt.Sprintf("rule %d: ", number)
	name := ""
	for _, v := range m.Values {
		if s, ok := v.Value.(*ast.StringNode); ok && v.Key.GetToken().Value == "name" {
			name = s.Value
			what = fmt.Sprintf("rule %q: ", name)
		}
	}
	fields := p.fields(m, what, "name", "table", "key", "null", "columns", "when", "fill", "lease", "on_untrusted")
	r := &Rule{name: name, at: fmt.Sprintf("%s:%d", p.file, lineOf(n))}
	for _, need := range []string{"name", "table", "key"} {
		if _, ok := fields[need]; !ok {
			p.fail(lineOf(n), "%s%s: is missing", what, need)
		}
	}
	if s, line, ok := p.text(fields, "name", what); ok && !ruleName.MatchString(s) {
		p.fail(line, "%sname: may have the characters a-z 0-9 - _ only", what)
	}
	if s, line, ok := p.text(fields, "table", what); ok {
		var err error
		if r.dbGlob, r.tableGlob, err = parseTable(s); err != nil {
			p.failEach(line, what+"table: ", err)
		}
	}
	p.key(r, fields, what)
	p.filling(r, fields, what)
	r.watched = p.columns(fields, what)
	if s, line, ok := p.text(fields, "when", what); ok {
		var err error
		if r.when, err = compileWhen(s); err != nil {
			p.failEach(line, what+"when: ", err)
		}
	}
	if r.template != nil {
		r.complete()
	}
	return r
}

// key reads key: and null:, which are checked together.
func (p *schemaParser) key(r *Rule, fields map[string]ast.Node, what string) {
	if n, ok := fields["null"]; ok {
		s, isText := n.(*ast.StringNode)
		switch {
		case !isText || s.Value == "":
			p.fail(lineOf(n), "%snull: must be skip, or a text such as \"!null\"", what)
		case s.Value != "skip":
			r.null = s.Value
		}
	}
	s, line, ok := p.text(fields, "key", what)
	if !ok {
		return
	}
	t, err := parseTemplate(s)
	if err != nil {
		p.failEach(line, what+"key: ", err)
		return
	}
	r.template = t
	if r.null != "" {
		if err := t.checkNull(r.null); err != nil {
			p.failEach(lineOf(fields["null"]), what+"null: ", err)
		}
	}
}

func (p *schemaParser) columns(fields map[string]ast.Node, what string) []string {
	n, ok := fields["columns"]
	if !ok {
		return nil
	}
	list, ok := n.(*ast.SequenceNode)
	if !ok || len(list.Values) == 0 {
		p.fail(lineOf(n), "%scolumns: must be a list of column names such as [price, stock]", what)
		return nil
	}
	var out []string
	for _, v := range list.Values {
		switch s, ok := v.(*ast.StringNode); {
		case !ok || s.Value == "":
			p.fail(lineOf(v), "%scolumns: each must be a column name; a name that YAML reads as something else goes in quotes", what)
		case findColumn(out, s.Value) >= 0:
			p.fail(lineOf(v), "%scolumns: %q is there twice", what, s.Value)
		default:
			out = append(out, s.Value)
		}
	}
	return out
}

// text returns a field that must be text.
func (p *schemaParser) text(fields map[string]ast.Node, name, what string) (s string, line int, ok bool) {
	n, ok := fields[name]
	if !ok {
		return "", 0, false
	}
	switch n := n.(type) {
	case *ast.StringNode:
		s = n.Value
	case *ast.LiteralNode: // | and >
		s = strings.TrimSpace(n.Value.Value)
	}
	if s == "" {
		p.fail(lineOf(n), "%s%s: must be text; put it in quotes if YAML reads it as something else", what, name)
		return "", 0, false
	}
	return s, lineOf(n), true
}
