package config

import (
	"fmt"
	"slices"
	"strings"
)

// problem records that a field is wrong; only the first problem of a field
// counts, the others follow from it.
func (l *loader) problem(field, format string, args ...any) {
	l.problemAt(l.line(field), field, format, args...)
}

func (l *loader) problemAt(line int, field, format string, args ...any) {
	if field != "" {
		if l.isBad(field) {
			return
		}
		l.bad[field] = true
	}
	l.problems = append(l.problems, Problem{Line: line, Field: field, Text: fmt.Sprintf(format, args...)})
}

// isBad says whether the field, or a section that it is in, has a problem.
func (l *loader) isBad(field string) bool {
	for {
		if l.bad[field] {
			return true
		}
		i := strings.LastIndexByte(field, '.')
		if i < 0 {
			return false
		}
		field = field[:i]
	}
}

func (l *loader) warn(field, format string, args ...any) {
	l.warnings = append(l.warnings,
		fmt.Sprintf("%s:%d: %s: %s", l.file, l.line(field), field, fmt.Sprintf(format, args...)))
}

// line is where a field stands, or, where the file does not have it, the
// nearest section that should have it.
func (l *loader) line(field string) int {
	for {
		if n, ok := l.lines[field]; ok {
			return n
		}
		i := strings.LastIndexAny(field, ".[")
		if i < 0 {
			return 0
		}
		field = field[:i]
	}
}

func (l *loader) error() *Error {
	slices.SortStableFunc(l.problems, func(a, b Problem) int { return a.Line - b.Line })
	return &Error{File: l.file, Problems: l.problems}
}
