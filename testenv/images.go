package testenv

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/moby/client"
)

// Components are the servers that have an image.
func Components() []string { return []string{"mysql", "mariadb", "kafka", "redis", "valkey"} }

// builtLabel marks the images that BuildImage made: it replaces no others.
const builtLabel = "doubletap.testenv.built"

// imageUser owns the data in built images; the vendors' images use this number too.
const imageUser = 999

// BuildImage makes a container image of a component from the folder that its processes run from, for engines that reach no
// registry. The name is that of DOUBLETAP_IMAGE_MYSQL and so on, else one that Docker mode falls back to. The image takes
// the same arguments and, Kafka's, the same variables as the vendor's. Entry is the static program that sees to that
// (testenv/mkimages/entry).
func BuildImage(ctx context.Context, o Options, component, entry string) (name string, err error) {
	if !slices.Contains(Components(), component) {
		return "", fmt.Errorf("no image is known for %q: choose from %v", component, Components())
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	dir, err := cacheDir(o.CacheDir)
	if err != nil {
		return "", err
	}
	d, err := openDocker(ctx, o, "")
	if err != nil {
		return "", err
	}
	defer d.close()
	if name = os.Getenv(imageVariable(component)); name == "" {
		name = localImage(component)
	}
	if old, err := d.client.ImageInspect(ctx, name); err == nil && (old.Config == nil || old.Config.Labels[builtLabel] == "") {
		return "", fmt.Errorf("image %s exists and was not built here: remove it, or set %s to another name", name, imageVariable(component))
	}
	b := imageBuilder{cache: &cache{dir: dir, log: o.Log, noDownload: o.NoDownload}, changes: []string{"LABEL " + builtLabel + "=" + component, "WORKDIR /data"}}
	if err := b.plan(ctx, component, entry); err != nil {
		return "", err
	}
	return name, b.load(ctx, d.client, name)
}

// imageBuilder collects what goes into an image.
type imageBuilder struct {
	cache   *cache
	trees   []tree
	changes []string // Dockerfile lines
}

// tree is a file or folder of this machine and its place in the image.
type tree struct {
	from, to string
	uid      int
}

func (b *imageBuilder) plan(ctx context.Context, component, entry string) error {
	n := &native{cache: b.cache}
	packages := component
	if component == "kafka" {
		packages = "jre"
	}
	root, st, err := b.cache.packaged(ctx, packages)
	if err != nil {
		return err
	}
	b.trees = append(b.trees, tree{from: root, to: "."})
	switch component {
	case "mysql", "mariadb":
		template := n.mysqlTemplate
		if component == "mariadb" {
			template = n.mariadbTemplate
		}
		data, err := template(ctx, root, st, nil)
		if err != nil {
			return err
		}
		b.trees = append(b.trees, tree{filepath.Join(data, "data"), "var/lib/mysql", imageUser}, tree{from: entry, to: "entry"})
		if component == "mysql" {
			b.changes = append(b.changes, `ENTRYPOINT ["/entry"]`)
		}
	case "kafka":
		folder, jars, err := n.kafkaFolder(ctx)
		if err != nil {
			return err
		}
		b.trees = append(b.trees, tree{from: filepath.Join(folder, "lib"), to: "opt/kafka/libs"}, tree{from: entry, to: "opt/kafka/entry"})
		for name := range kafkaTools {
			b.trees = append(b.trees, tree{from: entry, to: "opt/kafka/bin/" + name + ".sh"})
		}
		b.changes = append(b.changes, `ENTRYPOINT ["/opt/kafka/entry"]`, "LABEL doubletap.testenv.version="+jars.Version)
	}
	b.changes = append(b.changes, fmt.Sprintf("USER %d:%d", imageUser, imageUser))
	return nil
}

// load streams the image to the engine.
func (b *imageBuilder) load(ctx context.Context, c client.APIClient, name string) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(b.write(w)) }()
	defer r.Close()
	answer, err := c.ImageImport(ctx, client.ImageImportSource{Source: r, SourceName: "-"}, name, client.ImageImportOptions{Changes: b.changes})
	if err != nil {
		return fmt.Errorf("load image %s: %w", name, err)
	}
	defer answer.Close()
	for lines := json.NewDecoder(answer); ; {
		var line struct {
			Error string `json:"error"`
		}
		if err := lines.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("load image %s: %w", name, err)
		}
		if line.Error != "" {
			return fmt.Errorf("load image %s: %s", name, line.Error)
		}
	}
}

func (b *imageBuilder) write(w io.Writer) error {
	t := tar.NewWriter(w)
	dirs := []struct {
		name string
		mode int64
	}{{"tmp", 0o1777}, {"data", 0o777}, {"run", 0o755}, {"run/mysqld", 0o777}, {"var", 0o755}, {"var/lib", 0o755}, {"opt", 0o755}, {"opt/kafka", 0o755}, {"opt/kafka/bin", 0o755},
		{"var/lib/kafka", 0o755}, {"var/lib/kafka/data", 0o777}}
	for _, d := range dirs {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d.name + "/", Mode: d.mode}); err != nil {
			return err
		}
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "var/run", Linkname: "../run", Mode: 0o777}); err != nil {
		return err
	}
	seen := map[string]bool{} // the engine refuses a name that comes twice
	for _, d := range dirs {
		seen[d.name] = true
	}
	for _, tree := range b.trees {
		if err := tree.write(t, seen); err != nil {
			return fmt.Errorf("pack %s: %w", tree.from, err)
		}
	}
	return t.Close()
}

func (tr tree) write(t *tar.Writer, seen map[string]bool) error {
	return filepath.WalkDir(tr.from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(tr.from, path)
		name := filepath.ToSlash(filepath.Join(tr.to, rel))
		if err != nil || rel == stampFile || name == "var/run" || seen[name] {
			return err
		}
		seen[name] = true
		info, err := d.Info()
		if err != nil {
			return err
		}
		link := ""
		if d.Type()&fs.ModeSymlink != 0 {
			if link, err = os.Readlink(path); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		h.Name = name
		h.Uid, h.Gid, h.Uname, h.Gname = tr.uid, tr.uid, "", ""
		if err := t.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(t, f)
		return err
	})
}
