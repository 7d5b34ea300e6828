package testenv

import (
	"bytes"
	"crypto/sha1"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestPickMirror(t *testing.T) {
	const targets = "http://m/debian/|trixie|/etc/apt/a:1\nhttp://m/debian/|trixie-updates|/etc/apt/a:1\nhttp://s/debian-security/|trixie-security|/etc/apt/b:1\n"
	for _, c := range []struct{ targets, codename, suite, mirror string }{
		{targets, "trixie", "trixie", "http://m/debian/"},
		{strings.ReplaceAll(targets, "|trixie|", "|stable|"), "trixie", "stable", "http://m/debian/"},
		{"http://m/debian/|sid|/etc/apt/a:1\n", "forky", "sid", "http://m/debian/"},
		{"http://s/debian-security/|trixie-security|/etc/apt/b:1\n", "trixie", "trixie", ""},
		{"", "", "", ""},
	} {
		suite, mirror, _ := pickMirror(c.targets, c.codename)
		if suite != c.suite || mirror != c.mirror {
			t.Errorf("%q on %s: %s from %q, want %s from %q", c.targets, c.codename, suite, mirror, c.suite, c.mirror)
		}
	}
}

func TestSignedBy(t *testing.T) {
	key := filepath.Join(t.TempDir(), "debian-key.gpg")
	if err := os.WriteFile(key, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"Types: deb\nSigned-By: " + key + "\n",
		"deb [arch=amd64 signed-by=" + key + "] http://m/debian trixie main\n",
		"deb [signed-by=" + key + ",/nowhere/debian.gpg] http://m/debian trixie main\n",
		"Signed-By: " + key,
	} {
		file := filepath.Join(t.TempDir(), "sources")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := signedBy(file + ":1"); !slices.Equal(got, []string{key}) {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestUpstreamVersion(t *testing.T) {
	for version, want := range map[string]string{
		"5:8.0.6-3": "8.0.6", "9.7.4-2": "9.7.4", "1:11.8.6-0+deb13u1": "11.8.6", "11.8.6-MariaDB-0+deb13u1-log": "11.8.6", "odd": "odd",
	} {
		if got := upstream(version); got != want {
			t.Errorf("%s: %s, want %s", version, got, want)
		}
	}
}

func TestSumURIs(t *testing.T) {
	const out = "Reading package lists...\n'http://m/a.deb' a.deb 1500000 SHA256:00\n'http://m/b.deb' b.deb 500000 SHA256:00\n"
	if count, size := sumURIs(out); count != 2 || size != 2 {
		t.Errorf("%d packages, %v MB", count, size)
	}
}

func TestInitialiseArgs(t *testing.T) {
	got := initialiseArgs([]string{"--port=1", "--lower_case_table_names=1", "--innodb-page-size=8k", "--gtid-mode=OFF"})
	if want := []string{"--lower_case_table_names=1", "--innodb-page-size=8k"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestMergeUsrAndTidy(t *testing.T) {
	dir := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("lib/x/libc.so", "old place")
	write("usr/lib/x/libz.so", "new place")
	write("etc/java/security", "settings")
	write("usr/share/doc/x/README", "text")
	if err := os.Symlink("/etc/java", filepath.Join(dir, "usr/lib/conf")); err != nil {
		t.Fatal(err)
	}
	if err := mergeUsr(dir); err != nil {
		t.Fatal(err)
	}
	if err := tidy(dir); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"usr/lib/x/libc.so": "old place", "lib/x/libc.so": "old place", "lib/x/libz.so": "new place", "usr/lib/conf/security": "settings", "usr/share/doc/x/README": "",
	} {
		if got, _ := os.ReadFile(filepath.Join(dir, path)); string(got) != want {
			t.Errorf("%s holds %q, want %q", path, got, want)
		}
	}
}

// The store was read by OpenJDK 21 (Maven, over TLS); this keeps its form.
func TestTrustStoreForm(t *testing.T) {
	var bundle bytes.Buffer
	for _, der := range []string{"first", "second one"} {
		if err := pem.Encode(&bundle, &pem.Block{Type: "CERTIFICATE", Bytes: []byte(der)}); err != nil {
			t.Fatal(err)
		}
	}
	got := jks(bundle.Bytes())
	body, sum := got[:len(got)-sha1.Size], got[len(got)-sha1.Size:]
	want := "\xfe\xed\xfe\xed\x00\x00\x00\x02\x00\x00\x00\x02" +
		"\x00\x00\x00\x02\x00\x03ca0\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05X.509\x00\x00\x00\x05first" +
		"\x00\x00\x00\x02\x00\x03ca1\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05X.509\x00\x00\x00\x0asecond one"
	if string(body) != want {
		t.Errorf("store is %q, want %q", body, want)
	}
	salted := sha1.Sum([]byte("\x00c\x00h\x00a\x00n\x00g\x00e\x00i\x00tMighty Aphrodite" + want))
	if !bytes.Equal(sum, salted[:]) {
		t.Error("the checksum is wrong")
	}
}
