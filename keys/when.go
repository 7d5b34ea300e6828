package keys

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"
)

// maxWhen bounds a condition in bytes: its parser recurses.
const maxWhen = 4096

// image says which row image a condition's column is read from.
type image uint8

const (
	thisImage image = iota // the image whose key is being made
	beforeImage
	afterImage
)

// ref is one column that a condition reads, and the variable it is compiled to.
type ref struct {
	image  image
	column string
	slot   string
}

// when is a compiled condition.
type when struct {
	program   *vm.Program
	refs      []ref
	canonical string // tokens, for the schema's hash
	images    bool   // it reads op, or one image by its name
}

// opVariable is the variable that op is compiled to: not a name users can write.
const opVariable = "$op"

// compileWhen compiles a rule's condition: expr-lang with SQL's way of writing
// = <> IN (…) IS NULL and keywords.
func compileWhen(src string) (*when, error) {
	if len(src) > maxWhen {
		return nil, fmt.Errorf("the condition is longer than %d bytes", maxWhen)
	}
	text, canonical, err := fromSQL(src)
	if err != nil {
		return nil, err
	}
	tree, err := parser.Parse(text)
	if err != nil {
		return nil, exprError(err)
	}
	c := &collector{taken: map[ast.Node]bool{}}
	ast.Walk(&tree.Node, c)
	c.finish()
	if err := errors.Join(append(c.problems, needBool(tree.Node))...); err != nil {
		return nil, err
	}
	if len(c.refs) == 0 && !c.usesOp {
		return nil, errors.New("the condition reads no column (text in quotes is a value)")
	}
	env := types.Map{opVariable: types.String}
	for _, r := range c.refs {
		env[r.slot] = types.Any
	}
	opts := []expr.Option{expr.Env(env), expr.AsBool(), expr.Patch(patcher{c})}
	for name, f := range comparisons {
		opts = append(opts, expr.Function(name, f, new(func(any, any) bool)))
	}
	program, err := expr.Compile(text, opts...)
	if err != nil {
		return nil, exprError(err)
	}
	named := func(r ref) bool { return r.image != thisImage }
	return &when{program: program, refs: c.refs, canonical: canonical, images: c.usesOp || slices.ContainsFunc(c.refs, named)}, nil
}

// exprError keeps the first line of the library's errors: the rest is a
// picture of the source.
func exprError(err error) error {
	var fe *file.Error
	if errors.As(err, &fe) {
		return fmt.Errorf("%s (at character %d)", fe.Message, fe.Column+1)
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(first)
}

// collector finds the columns that a condition reads, and what it must not do.
type collector struct {
	refs     []ref
	usesOp   bool
	names    []*ast.IdentifierNode
	found    []found
	taken    map[ast.Node]bool // before and after of before.col and after.col
	problems []error
}

// Visit implements ast.Visitor; children come before their parents.
func (c *collector) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		c.names = append(c.names, n)
	case *ast.MemberNode:
		if img, column, ok := imageColumn(n); ok {
			c.taken[n.Node] = true
			c.found = append(c.found, found{n.Node.Location().From, img, column})
		} else if _, closure := n.Node.(*ast.PointerNode); !closure {
			c.fail("%s: a column has no parts: only before.column and after.column may be written so", n)
		}
	case *ast.ChainNode:
		c.fail("%s: write before.column or after.column without ?", n)
	case *ast.CallNode:
		c.fail("%s: there is no function of this name", n)
	case *ast.BuiltinNode:
		if n.Name == "now" {
			c.fail("now(): a condition must give the same answer whenever it is asked")
		}
	case *ast.BytesNode:
		c.fail("a literal with b before its quote is not supported: compare a BIT with a number, a BINARY with its hex digits")
	case *ast.BinaryNode:
		c.checkOp(n.Left, n.Right)
		c.checkOp(n.Right, n.Left)
	case *ast.SequenceNode:
		c.fail("a condition is one expression, without ;")
	}
}

// checkOp refuses to compare op with a text that it never is.
func (c *collector) checkOp(op, with ast.Node) {
	name, ok := op.(*ast.IdentifierNode)
	text, ok2 := with.(*ast.StringNode)
	if ok && ok2 && name.Value == "op" && !slices.Contains([]string{"insert", "update", "delete"}, text.Value) {
		c.fail("op is never %q: it is insert, update or delete", text.Value)
	}
}

func (c *collector) fail(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(format, args...))
}

// finish turns the names that are not part of before.col and after.col into
// columns of the image at hand.
func (c *collector) finish() {
	for _, n := range c.names {
		switch {
		case c.taken[n]:
		case n.Value == "op":
			c.usesOp = true
		case n.Value == "before", n.Value == "after":
			c.fail("%s alone is no column: write %s.column; to tell inserts from deletes, use op", n.Value, n.Value)
		case n.Value == "$env":
			c.fail("$env is not supported in a condition")
		default:
			c.found = append(c.found, found{n.Location().From, thisImage, n.Value})
		}
	}
	slices.SortStableFunc(c.found, func(a, b found) int { return a.at - b.at })
	for _, f := range c.found {
		c.slot(f.image, f.column)
	}
}

// found is a column at its place in the source.
type found struct {
	at     int
	image  image
	column string
}

// slot returns the variable of a column of an image.
func (c *collector) slot(img image, column string) string {
	for _, r := range c.refs {
		if r.image == img && strings.EqualFold(r.column, column) {
			return r.slot
		}
	}
	slot := "$" + strconv.Itoa(len(c.refs))
	c.refs = append(c.refs, ref{img, column, slot})
	return slot
}

// imageColumn recognises before.col, before["col"], after.col, after["col"].
func imageColumn(n *ast.MemberNode) (image, string, bool) {
	of, ok := n.Node.(*ast.IdentifierNode)
	column, constant := n.Property.(*ast.StringNode)
	if !ok || !constant {
		return 0, "", false
	}
	switch of.Value {
	case "before":
		return beforeImage, column.Value, true
	case "after":
		return afterImage, column.Value, true
	}
	return 0, "", false
}

// needBool refuses conditions that can only give something else than true or
// false, most often a column alone.
func needBool(node ast.Node) error {
	switch n := node.(type) {
	case *ast.IdentifierNode, *ast.MemberNode:
		return fmt.Errorf("%s is a value, not a condition: write %s = 1 or the like", n, n)
	case *ast.UnaryNode:
		if n.Operator == "not" || n.Operator == "!" {
			return needBool(n.Node)
		}
		return fmt.Errorf("%s gives no true or false", n)
	case *ast.BinaryNode:
		switch n.Operator {
		case "and", "or", "&&", "||":
			return errors.Join(needBool(n.Left), needBool(n.Right))
		case "+", "-", "*", "/", "%", "^", "**", "..", "|":
			return fmt.Errorf("%s gives no true or false", n)
		}
	case *ast.ConditionalNode:
		return errors.Join(needBool(n.Cond), needBool(n.Exp1), needBool(n.Exp2))
	}
	return nil // the library's type check refuses the rest
}

// patcher replaces columns by their variables, and comparisons by ours.
type patcher struct{ c *collector }

// Visit implements ast.Visitor.
func (p patcher) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		switch n.Value {
		case "before", "after":
		case "op":
			ast.Patch(node, &ast.IdentifierNode{Value: opVariable})
		default:
			ast.Patch(node, &ast.IdentifierNode{Value: p.c.slot(thisImage, n.Value)})
		}
	case *ast.MemberNode:
		if img, column, ok := imageColumn(n); ok {
			ast.Patch(node, &ast.IdentifierNode{Value: p.c.slot(img, column)})
		}
	case *ast.BinaryNode:
		if name := "$" + n.Operator; comparisons[name] != nil {
			ast.Patch(node, &ast.CallNode{
				Callee:    &ast.IdentifierNode{Value: name},
				Arguments: []ast.Node{n.Left, n.Right},
			})
		}
	}
}
