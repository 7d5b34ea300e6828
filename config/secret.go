package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a text that does not print: every way of formatting, logging or
// marshalling it gives "[redacted]". The zero Secret is empty.
type Secret struct{ text string }

const redacted = "[redacted]"

// Reveal returns the text itself, for the connection that needs it.
func (s Secret) Reveal() string { return s.text }

// Empty says whether there is no text.
func (s Secret) Empty() bool { return s.text == "" }

// String returns "[redacted]", or "" for the empty Secret.
func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	return redacted
}

// Format makes every verb print what String returns.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) } //nolint:errcheck // as fmt does

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler, and so JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML is what [Config.Redacted] prints.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
