package testenv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// native runs servers as processes.
type native struct{ cache *cache }

func (n *native) name() string { return "native" }
func (n *native) close() error { return nil }

func (n *native) launch(ctx context.Context, sp *spec, dir string) (instance, string, error) {
	p, err := sp.native(ctx, n, sp, dir)
	if err != nil {
		return nil, "", err
	}
	p.dir = dir
	for name, text := range sp.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, "", err
		}
	}
	return p, n.name(), nil
}

// program returns the command line of a program in a component's folder, run by that folder's own loader and libraries:
// they are newer than the machine's, and are not on its search path.
func program(root, argv0, path string) ([]string, error) {
	loaders, _ := filepath.Glob(filepath.Join(root, "usr/lib/*/ld-linux*.so.*"))
	if len(loaders) == 0 {
		return nil, fmt.Errorf("no program loader in %s: remove that folder, it will be unpacked again", root)
	}
	loader := loaders[0]
	return []string{loader, "--library-path", filepath.Dir(loader), "--argv0", argv0, filepath.Join(root, path)}, nil
}
