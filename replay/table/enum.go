package table

import (
	"strconv"
	"strings"
)

// An ENUM is sorted by the number of its member, and compared with text as text.
// Compared with a number it is compared as it is sorted, but then no server uses
// the index (MySQL 9.7 and MariaDB 11.8 do not). So "behind the third member" is
// said as a list of the members that follow, which is one range of the index for
// each. What is left to numbers is correct, and slow only where very many rows hold
// the number 0, which stands for a text that is no member.

// compareEnum is one comparison of an ENUM with the member of a number.
func (c *keyColumn) compareEnum(op, number string) string {
	name := backtick(c.name)
	n, err := strconv.Atoi(number)
	members := enumMembers(c.full)
	if err != nil || n < 1 || n > len(members) {
		return name + " " + op + " " + number
	}
	switch op {
	case "=":
		return name + " = " + members[n-1]
	case ">":
		members = members[n:]
	case ">=":
		members = members[n-1:]
	default:
		return name + " " + op + " " + number
	}
	if len(members) == 0 {
		return "FALSE"
	}
	return name + " IN (" + strings.Join(members, ", ") + ")"
}

// enumMembers cuts a COLUMN_TYPE into the literals of the members, which are SQL as
// they stand there.
func enumMembers(columnType string) (members []string) {
	for rest := columnType; ; {
		i := strings.IndexByte(rest, '\'')
		if i < 0 {
			return members
		}
		n := quoted(rest[i:])
		if n < 0 {
			return nil
		}
		members = append(members, rest[i:i+n])
		rest = rest[i+n:]
	}
}
