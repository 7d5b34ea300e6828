package testenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// recipe names the packages of a component in one suite; the first gives the version. An empty suite is the machine's own.
type recipe struct {
	suite    string
	packages []string
}

// recipes lists, for each component, where it is looked for, best first. MySQL is in Debian's unstable suite only.
var recipes = map[string][]recipe{
	"mysql": {
		{"sid", []string{"mysql-server-core", "mysql-client-core"}},
		{"sid", []string{"mysql-server-core-8.0", "mysql-client-core-8.0"}},
	},
	"mariadb": {
		{"trixie", []string{"mariadb-server-core", "mariadb-client"}},
		{"sid", []string{"mariadb-server-core", "mariadb-client"}},
		{"", []string{"mariadb-server-core", "mariadb-client"}},
	},
	"redis":  {{"sid", []string{"redis-server"}}, {"trixie", []string{"redis-server"}}, {"", []string{"redis-server"}}},
	"valkey": {{"sid", []string{"valkey-server"}}, {"trixie", []string{"valkey-server"}}},
	"jre":    {{"trixie", []string{"openjdk-21-jre-headless"}}, {"sid", []string{"openjdk-21-jre-headless"}}},
	"maven":  {{"trixie", []string{"maven"}}, {"sid", []string{"maven"}}},
}

// packaged returns the folder of a component that comes from Debian packages.
func (c *cache) packaged(ctx context.Context, name string) (string, stamp, error) {
	return c.folder(ctx, name, fmt.Sprint("1", recipes[name]), func(ctx context.Context, dir string) (stamp, error) {
		var skipped []error
		for _, r := range recipes[name] {
			s, err := c.fromSuite(ctx, name, r, dir)
			if !errors.Is(err, errNoPackage) {
				return s, err
			}
			c.log(err.Error() + ": trying the next")
			skipped = append(skipped, err)
		}
		return stamp{}, errors.Join(skipped...)
	})
}

// fromSuite unpacks one recipe into dir.
func (c *cache) fromSuite(ctx context.Context, name string, r recipe, dir string) (stamp, error) {
	if r.suite == "" {
		m, err := readMachine(ctx)
		if err != nil {
			return stamp{}, err
		}
		r.suite = m.codename
	}
	unlock, err := c.lock(ctx, "apt-"+r.suite)
	if err != nil {
		return stamp{}, err
	}
	defer unlock()
	s, err := c.openSuite(ctx, r.suite)
	if err != nil {
		return stamp{}, err
	}
	versions, err := s.unpack(ctx, r.packages, dir, name)
	if err != nil {
		return stamp{}, err
	}
	return stamp{Version: upstream(versions[r.packages[0]]), Suite: s.name, Packages: versions}, nil
}

var debianVersion = regexp.MustCompile(`^(?:\d+:)?(\d+(?:\.\d+)*)`)

// upstream turns a package version ("5:8.0.6-3") into the program's ("8.0.6").
func upstream(version string) string {
	if m := debianVersion.FindStringSubmatch(version); m != nil {
		return m[1]
	}
	return version
}

// unpack downloads packages with all that they depend on and unpacks them into dir. It returns their versions.
func (s *suite) unpack(ctx context.Context, packages []string, dir, title string) (map[string]string, error) {
	out, err := s.apt(ctx, append([]string{"install", "--print-uris"}, packages...)...)
	if err != nil {
		if strings.Contains(out, "Unable to locate package") || strings.Contains(out, "has no installation candidate") {
			return nil, fmt.Errorf("%w: %s has no %s", errNoPackage, s.name, strings.Join(packages, " and no "))
		}
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	count, size := sumURIs(out)
	s.log(fmt.Sprintf("%s: downloading %d packages, %.0f MB, from Debian %s", title, count, size, s.name))
	debs := filepath.Join(dir, ".debs")
	if err := os.MkdirAll(filepath.Join(debs, "partial"), 0o755); err != nil {
		return nil, err
	}
	if err := s.download(ctx, packages, debs, title); err != nil {
		// The index may be older than the mirror's content.
		if _, uerr := s.apt(ctx, "update"); uerr != nil {
			return nil, errors.Join(err, uerr)
		}
		if err := s.download(ctx, packages, debs, title); err != nil {
			return nil, err
		}
	}
	s.log(title + ": unpacking")
	versions, err := extract(ctx, debs, dir)
	if err != nil {
		return nil, err
	}
	return versions, errors.Join(os.RemoveAll(debs), mergeUsr(dir), tidy(dir))
}

var uriLine = regexp.MustCompile(`(?m)^'\S+' \S+ (\d+) `)

func sumURIs(out string) (count int, megabytes float64) {
	for _, m := range uriLine.FindAllStringSubmatch(out, -1) {
		n, _ := strconv.ParseFloat(m[1], 64)
		count, megabytes = count+1, megabytes+n/1e6
	}
	return count, megabytes
}

// download fetches the packages, and reports apt's own progress every few seconds.
func (s *suite) download(ctx context.Context, packages []string, debs, title string) error {
	status, w, err := os.Pipe()
	if err != nil {
		return err
	}
	args := append([]string{"-q", "-y", "--no-install-recommends", "-o", "APT::Status-Fd=3", "-o", "Dir::Cache::archives=" + debs, "install", "--download-only"}, packages...)
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(s.dir, "apt.conf"), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	cmd.ExtraFiles = []*os.File{w}
	done := make(chan struct{})
	go func() {
		defer close(done)
		next := time.Now().Add(2 * time.Second)
		for lines := bufio.NewScanner(status); lines.Scan(); {
			if f := strings.SplitN(lines.Text(), ":", 4); f[0] == "dlstatus" && len(f) == 4 && time.Now().After(next) {
				percent, _, _ := strings.Cut(f[2], ".")
				s.log(fmt.Sprintf("%s: %s %%", title, percent))
				next = time.Now().Add(2 * time.Second)
			}
		}
	}()
	out, err := cmd.CombinedOutput()
	_ = w.Close()
	<-done
	_ = status.Close()
	if err != nil {
		return fmt.Errorf("download %s: %w\n%s", strings.Join(packages, " "), err, out)
	}
	return nil
}

// extract unpacks every package into dir.
func extract(ctx context.Context, debs, dir string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return nil, err
	}
	versions := map[string]string{}
	for _, file := range files {
		out, err := exec.CommandContext(ctx, "dpkg-deb", "--show", "--showformat=${Package} ${Version}", file).Output()
		if err != nil {
			return nil, fmt.Errorf("read package %s: %w", filepath.Base(file), err)
		}
		name, version, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
		versions[name] = version
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "--extract", file, dir).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("unpack %s: %w\n%s", filepath.Base(file), err, out)
		}
	}
	return versions, nil
}

// mergeUsr makes /lib and its like links into /usr, as an installed system has them. Packages before Debian 13 still put
// files there.
func mergeUsr(dir string) error {
	for _, name := range []string{"lib", "lib64", "bin", "sbin"} {
		from, to := filepath.Join(dir, name), filepath.Join(dir, "usr", name)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			if d.IsDir() {
				return os.MkdirAll(filepath.Join(to, rel), 0o755)
			}
			return os.Rename(path, filepath.Join(to, rel))
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := errors.Join(os.RemoveAll(from), os.Symlink("usr/"+name, from)); err != nil {
			return err
		}
	}
	return nil
}

// tidy removes documentation, and turns links that are absolute within the folder into relative ones.
func tidy(dir string) error {
	for _, path := range []string{"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/perl"} {
		if err := os.RemoveAll(filepath.Join(dir, path)); err != nil {
			return err
		}
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink == 0 {
			return err
		}
		target, err := os.Readlink(path)
		if err != nil || !filepath.IsAbs(target) {
			return err
		}
		inside := filepath.Join(dir, target)
		if _, err := os.Lstat(inside); err != nil {
			return nil
		}
		rel, err := filepath.Rel(filepath.Dir(path), inside)
		if err != nil {
			return err
		}
		return errors.Join(os.Remove(path), os.Symlink(rel, path))
	})
}
