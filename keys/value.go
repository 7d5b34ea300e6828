package keys

// Kind says what a [Value] is.
type Kind uint8

// The kinds of a column value in a row image.
const (
	Absent Kind = iota // not in the row image: nothing is known about the value
	Null               // SQL NULL
	Number             // integers, DECIMAL, YEAR, BIT
	Text               // everything else, as text
)

// Value is one column value in canonical text: the text that every language
// makes of the same MySQL value (docs/schema.md has the table).
//
// Text of a Number is a valid JSON number literal with the exact digits:
// integers without a plus sign or leading zeros, DECIMAL with all digits of
// its scale, YEAR as four digits (0 for 0000), BIT as an unsigned integer.
// Text of Null and Absent is empty. The zero Value is Absent.
type Value struct {
	Kind Kind
	Text string
}
