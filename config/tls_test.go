package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTLS talks to a server with what a tls section gives.
func TestTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pair := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	ca, keyFile := file("ca.pem", "CERTIFICATE", pair.Certificate[0]), file("key.pem", "PRIVATE KEY", key)
	for _, c := range []struct {
		name string
		tls  TLS
		err  string // of the configuration or of the handshake
	}{
		{"system roots", TLS{}, "unknown authority"},
		{"its own authority", TLS{CA: ca}, ""},
		{"another name", TLS{CA: ca, ServerName: "db.test"}, "db.test"},
		{"not verified", TLS{Insecure: true}, ""},
		{"own certificate", TLS{CA: ca, Cert: ca, Key: keyFile}, ""},
		{"no key", TLS{Cert: ca}, "belong together"},
		{"key and certificate exchanged", TLS{Cert: keyFile, Key: ca}, "cert and key"},
		{"no certificate in it", TLS{CA: keyFile}, "holds no PEM certificate"},
		{"missing file", TLS{CA: filepath.Join(dir, "none")}, "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := c.tls.Config()
			if err == nil {
				var conn *tls.Conn
				if cfg.ServerName == "" {
					cfg.ServerName = "127.0.0.1"
				}
				conn, err = tls.Dial("tcp", server.Listener.Addr().String(), cfg)
				if err == nil {
					conn.Close() //nolint:errcheck // a test's connection
				}
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, want %q", err, c.err)
			}
		})
	}
	if cfg, err := (*TLS)(nil).Config(); cfg != nil || err != nil {
		t.Errorf("no section gave %v, %v", cfg, err)
	}
}
