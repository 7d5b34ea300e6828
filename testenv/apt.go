package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// suite is a private apt root for one Debian suite: its own sources, lists and an empty package database, below the cache
// folder. The machine's apt is only read: its mirror, its proxy and other Acquire settings, its archive keys. Needs no
// root rights (measured on Debian 12; mirror and signatures as apt checks them).
type suite struct {
	name string
	dir  string
	log  func(string)
}

// errNoPackage means that the suite lacks a package of a recipe.
var errNoPackage = errors.New("suite lacks a package")

// openSuite prepares the apt root and fetches the suite's index where it is missing or older than six hours. The caller
// holds the cache's lock on the suite.
func (c *cache) openSuite(ctx context.Context, name string) (*suite, error) {
	m, err := readMachine(ctx)
	if err != nil {
		return nil, err
	}
	s := &suite{name: name, dir: filepath.Join(c.dir, "apt-"+name), log: c.log}
	for _, dir := range []string{"etc/parts", "etc/preferences.d", "etc/sources.list.d", "state/lists/partial", "cache"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o755); err != nil {
			return nil, err
		}
	}
	if err := s.configure(m); err != nil {
		return nil, err
	}
	if info, err := os.Stat(s.updatedFile()); err == nil && time.Since(info.ModTime()) < 6*time.Hour {
		return s, nil
	}
	c.log("reading the package index of Debian " + name)
	return s, c.update(ctx, s, m)
}

func (s *suite) updatedFile() string { return filepath.Join(s.dir, "updated") }

// configure writes apt's configuration. Check-Valid-Until is off because a mirror's copy of a suite may be past its date;
// signatures are still required. Locking is off because our own lock is held, and the database is nobody else's.
func (s *suite) configure(m machine) error {
	conf := m.acquire + fmt.Sprintf(`
Dir %q;
Dir::Etc "etc";
Dir::Etc::parts "parts";
Dir::Etc::main "";
Dir::Etc::sourcelist "sources.list";
Dir::Etc::sourceparts "sources.list.d";
Dir::Etc::preferences "";
Dir::Etc::preferencesparts "preferences.d";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "parts";
Dir::Etc::netrc "/etc/apt/auth.conf";
Dir::Etc::netrcparts "/etc/apt/auth.conf.d";
Dir::State "state";
Dir::State::status "status";
Dir::State::extended_states "extended";
Dir::Cache "cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
APT::Install-Recommends "false";
APT::Get::AllowUnauthenticated "false";
Debug::NoLocking "true";
`, s.dir)
	if os.Getuid() == 0 { // apt's own user may not reach the cache folder
		conf += "APT::Sandbox::User \"root\";\n"
	}
	list := fmt.Sprintf("deb [signed-by=%s] %s %s main\n", strings.Join(m.keyrings, ","), m.mirror, s.name)
	return errors.Join(
		os.WriteFile(filepath.Join(s.dir, "apt.conf"), []byte(conf), 0o600), // a proxy's address may hold a password
		os.WriteFile(filepath.Join(s.dir, "etc/sources.list"), []byte(list), 0o600),
		os.WriteFile(filepath.Join(s.dir, "state/status"), nil, 0o644),
	)
}

// update fetches the suite's index. Its signature is verified against the machine's Debian archive keys. Where those are
// too old to know the suite's key, newer ones come from the package debian-archive-keyring, first of the machine's own
// suite, then of stable, each verified in turn by keys already trusted; nothing is ever fetched unverified.
func (c *cache) update(ctx context.Context, s *suite, m machine) error {
	out, err := s.apt(ctx, "update")
	for _, via := range []string{m.codename, "stable"} {
		if err == nil || !missingKey.MatchString(out) || via == s.name {
			break
		}
		c.log("the machine's archive keys do not cover " + s.name + ": fetching newer ones through " + via)
		more, kerr := c.newerKeys(ctx, via)
		if kerr != nil {
			return kerr
		}
		m.keyrings = append(slices.Clone(m.keyrings), more...)
		if err := s.configure(m); err != nil {
			return err
		}
		out, err = s.apt(ctx, "update")
	}
	if err != nil {
		return fmt.Errorf("read the package index of Debian %s: %w\n%s", s.name, err, out)
	}
	return os.WriteFile(s.updatedFile(), nil, 0o644)
}

var missingKey = regexp.MustCompile(`NO_PUBKEY|[Mm]issing key`)

// newerKeys unpacks debian-archive-keyring of a suite whose signature can be verified.
func (c *cache) newerKeys(ctx context.Context, via string) ([]string, error) {
	unlock, err := c.lock(ctx, "apt-"+via)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s, err := c.openSuite(ctx, via)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(c.dir, "keys-"+via)
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if _, err := s.unpack(ctx, []string{"debian-archive-keyring"}, dir, "archive keys"); err != nil {
		return nil, err
	}
	return archiveKeys(filepath.Join(dir, "usr/share/keyrings")), nil
}

// apt runs apt-get and returns what it printed.
func (s *suite) apt(ctx context.Context, args ...string) (string, error) {
	return s.aptIn(ctx, "", args...)
}

// aptIn is apt in a folder: what it downloads goes there.
func (s *suite) aptIn(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-y", "--no-install-recommends"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(s.dir, "apt.conf"), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("apt-get %s: %w", args[0], err)
	}
	return string(out), nil
}

// machine is what is read from the machine's own apt.
type machine struct {
	codename string // "bookworm"
	mirror   string
	acquire  string // Acquire settings in apt.conf form
	keyrings []string
}

var acquireLine = regexp.MustCompile(`(?m)^Acquire::.*\n`)

func readMachine(ctx context.Context) (m machine, err error) {
	for _, tool := range []string{"apt-get", "apt-config", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return m, fmt.Errorf("no %s here: without Docker, servers come from Debian packages. On a Debian machine install apt and dpkg; on another system start a Docker engine and set TESTENV=docker", tool)
		}
	}
	release, _ := os.ReadFile("/etc/os-release")
	if !regexp.MustCompile(`(?m)^ID="?debian"?$`).Match(release) {
		return m, errors.New("this is not a Debian system: start a Docker engine and set TESTENV=docker, or use a Debian machine or container")
	}
	if match := regexp.MustCompile(`(?m)^VERSION_CODENAME="?(\w+)"?$`).FindSubmatch(release); match != nil {
		m.codename = string(match[1])
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format",
		"$(REPO_URI)|$(RELEASE)|$(SOURCESENTRY)", "Created-By: Packages", "Component: main").Output()
	if err != nil {
		return m, fmt.Errorf("read the machine's apt sources: %w", err)
	}
	var entry string
	m.codename, m.mirror, entry = pickMirror(string(out), m.codename)
	if m.mirror == "" {
		return m, errors.New("no Debian mirror in the machine's apt sources: add one, with component main, to /etc/apt/sources.list")
	}
	dump, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return m, fmt.Errorf("read the machine's apt settings: %w", err)
	}
	for _, line := range acquireLine.FindAllString(string(dump), -1) {
		if !strings.HasPrefix(line, "Acquire::IndexTargets") { // desktop tools add indexes of their own
			m.acquire += line
		}
	}
	m.keyrings = append(signedBy(entry), archiveKeys("/usr/share/keyrings")...)
	m.keyrings = append(m.keyrings, archiveKeys("/etc/apt/trusted.gpg.d")...)
	slices.Sort(m.keyrings)
	m.keyrings = slices.Compact(m.keyrings)
	if len(m.keyrings) == 0 {
		return m, errors.New("no Debian archive keys here: install debian-archive-keyring")
	}
	return m, nil
}

// pickMirror chooses the source that serves the machine's own suite; sid and testing machines have sources by those names.
func pickMirror(targets, codename string) (suite, mirror, entry string) {
	for _, want := range []string{codename, "stable", "testing", "unstable", "sid"} {
		for line := range strings.Lines(targets) {
			f := strings.Split(strings.TrimSpace(line), "|")
			if len(f) == 3 && f[1] == want && want != "" {
				return f[1], f[0], f[2]
			}
		}
	}
	return codename, "", ""
}

var signedByPath = regexp.MustCompile(`(?im)\bsigned-by[:=]\s*(/\S+?)[\]\s,]`)

// signedBy returns the keyring files named in the sources file that holds entry ("FILE:NUMBER").
func signedBy(entry string) (paths []string) {
	file, _, _ := strings.Cut(entry, ":")
	text, _ := os.ReadFile(file)
	for _, match := range signedByPath.FindAllSubmatch(append(text, '\n'), -1) {
		if _, err := os.Stat(string(match[1])); err == nil && strings.Contains(string(match[1]), "debian") {
			paths = append(paths, string(match[1]))
		}
	}
	return paths
}

// archiveKeys lists Debian's archive keys in a folder, without the ones that were withdrawn.
func archiveKeys(dir string) (paths []string) {
	all, _ := filepath.Glob(filepath.Join(dir, "debian-archive-*"))
	for _, p := range all {
		if !strings.Contains(p, "removed") && slices.Contains([]string{".gpg", ".pgp", ".asc"}, filepath.Ext(p)) {
			paths = append(paths, p)
		}
	}
	return paths
}
