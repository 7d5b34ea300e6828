package config

import "github.com/goccy/go-yaml"

// Redacted returns the configuration in effect, defaults included, as YAML
// without secrets: what -check prints.
func (c *Config) Redacted() string {
	out, err := yaml.MarshalWithOptions(c, yaml.Indent(2))
	if err != nil { // no field's marshaller fails
		return "cannot print the configuration: " + err.Error() + "\n"
	}
	return string(out)
}
