package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLS is how to encrypt a connection. A section that is there, even an empty one
// (tls: {}), turns TLS on.
type TLS struct {
	CA         string `yaml:"ca" kind:"path"`   // PEM; the system's roots where empty
	Cert       string `yaml:"cert" kind:"path"` // PEM, the client's own certificate
	Key        string `yaml:"key" kind:"path"`  // PEM
	ServerName string `yaml:"server_name"`      // the host part of the address where empty
	Insecure   bool   `yaml:"insecure"`         // the server's certificate is not verified
}

// Config reads the files and returns the settings for crypto/tls; nil for a nil
// t: no TLS.
func (t *TLS) Config() (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.Insecure}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s holds no PEM certificate", t.CA)
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, errors.New("cert and key belong together; one of them is missing")
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("cert and key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// checkTLS reads the files once, so that a wrong one is found before the start.
func (l *loader) checkTLS(field string, t *TLS) {
	if _, err := t.Config(); err != nil {
		l.problem(field, "%v", err)
	}
	if t != nil && t.Insecure {
		l.warn(field+".insecure", "the server's certificate is not verified: whoever is on the way can read and change what is sent")
	}
}
