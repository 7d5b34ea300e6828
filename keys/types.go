package keys

import (
	"errors"
	"fmt"
	"strings"
)

// keyTypes are the MySQL types with a canonical text (docs/schema.md).
var keyTypes = map[string]bool{
	"tinyint": true, "smallint": true, "mediumint": true, "int": true, "integer": true, "bigint": true,
	"bool": true, "boolean": true, "bit": true, "year": true,
	"decimal": true, "numeric": true, "dec": true, "fixed": true,
	"char": true, "varchar": true, "tinytext": true, "text": true, "mediumtext": true, "longtext": true,
	"binary": true, "varbinary": true, "tinyblob": true, "blob": true, "mediumblob": true, "longblob": true,
	"enum": true, "set": true,
	"date": true, "datetime": true, "timestamp": true, "time": true,
}

// refusedTypes say why a type has no canonical text.
var refusedTypes = map[string]string{
	"float":  "its text depends on who prints it; use DECIMAL",
	"double": "its text depends on who prints it; use DECIMAL",
	"real":   "its text depends on who prints it; use DECIMAL",
	"json":   "MySQL changes the order of its fields; use a generated column of the value that is needed",
	"vector": "it is an array of floats",
	"uuid":   "it is not supported in this version; use a generated BINARY(16) or CHAR(36) column",
	"inet4":  "it is not supported in this version; use a generated VARCHAR column",
	"inet6":  "it is not supported in this version; use a generated VARCHAR column",
}

// CheckType says whether a column of a MySQL type may be a key column: nil if
// so, else an error with the reason. columnType is the DATA_TYPE or the
// COLUMN_TYPE of information_schema.columns, such as "int" or
// "decimal(10,2) unsigned".
func CheckType(columnType string) error {
	name := typeName(columnType)
	if isCompressed(columnType) {
		return errCompressed
	}
	if keyTypes[name] {
		return nil
	}
	if why, ok := refusedTypes[name]; ok {
		return fmt.Errorf("a column of type %s cannot be part of a key: %s", strings.ToUpper(name), why)
	}
	return fmt.Errorf("a column of type %s cannot be part of a key: it has no canonical text", strings.ToUpper(name))
}

// CheckConditionType says whether a column of a MySQL type may be named by a
// rule's columns: or when:. These take FLOAT and DOUBLE as well: the text need
// only be the same for the same value, not the same in every language.
func CheckConditionType(columnType string) error {
	switch name := typeName(columnType); {
	case isCompressed(columnType):
		return errCompressed
	case keyTypes[name], name == "float", name == "double", name == "real":
		return nil
	default:
		return fmt.Errorf("a column of type %s cannot be used in columns: or when:; leave it out (the rule then covers more changes) or use a generated column", strings.ToUpper(name))
	}
}

var errCompressed = errors.New("a COMPRESSED column cannot be used in a key schema in this version; use a generated column")

// isCompressed recognises MariaDB's compressed columns by their COLUMN_TYPE.
func isCompressed(columnType string) bool {
	return strings.HasSuffix(strings.ToLower(strings.TrimSpace(columnType)), "compressed*/")
}

// typeName cuts "decimal(10,2) unsigned" to "decimal".
func typeName(columnType string) string {
	name := strings.ToLower(strings.TrimSpace(columnType))
	if i := strings.IndexAny(name, "( "); i >= 0 {
		name = name[:i]
	}
	return name
}
