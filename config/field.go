package config

import (
	"reflect"
	"strings"
)

// fieldByName returns the field of the struct v with a name of the file, and
// what its "kind" tag says.
func fieldByName(v reflect.Value, name string) (f reflect.Value, kind string, ok bool) {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		if yamlName(sf) == name {
			return v.Field(i), sf.Tag.Get("kind"), true
		}
	}
	return reflect.Value{}, "", false
}

// yamlName is the name of a field in the file, "" if it has none.
func yamlName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if name == "-" {
		return ""
	}
	return name
}

// fieldNames lists the settings of a section in the order of its struct.
func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if name := yamlName(t.Field(i)); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// elsewhere finds a setting of this name in any section and returns its path.
func elsewhere(t reflect.Type, path, name string) string {
	for _, field := range paths(t, path) {
		if strings.HasSuffix(field, "."+name) || field == name {
			return field
		}
	}
	return ""
}

// paths lists all settings below t, sections and lists of sections included.
func paths(t reflect.Type, path string) []string {
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[Secret]() {
		return nil
	}
	var all []string
	for i := range t.NumField() {
		f := t.Field(i)
		if name := yamlName(f); name != "" {
			field := join(path, name)
			all = append(append(all, field), paths(f.Type, field)...)
		}
	}
	return all
}
