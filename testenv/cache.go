package testenv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// cache keeps each component (a server and what it needs) unpacked in a folder of its own, beside templates of
// initialised data. Several processes may use it at once; a killed one leaves nothing half-made in place.
type cache struct {
	dir        string
	log        func(string)
	noDownload bool
}

// stamp is written last into a component's folder and says what is in it.
type stamp struct {
	Component string            `json:"component"`
	Version   string            `json:"version"`
	Suite     string            `json:"suite,omitempty"`
	Packages  map[string]string `json:"packages,omitempty"`
	Made      time.Time         `json:"made"`
}

const stampFile = "testenv-stamp.json"

// folder returns the folder of a component, made by build where it is not there yet. Its name carries the recipe, so that a
// newer doubletap with another recipe leaves a folder in use alone.
func (c *cache) folder(ctx context.Context, name, recipe string, build func(ctx context.Context, dir string) (stamp, error)) (string, stamp, error) {
	final := filepath.Join(c.dir, fmt.Sprintf("%s-%08x", name, hash32(recipe)))
	if s, err := readStamp(final); err == nil {
		return final, s, nil
	}
	if c.noDownload {
		return "", stamp{}, fmt.Errorf("%s: %w", name, errNotCached)
	}
	unlock, err := c.lock(ctx, name)
	if err != nil {
		return "", stamp{}, err
	}
	defer unlock()
	if s, err := readStamp(final); err == nil { // another process made it while this one waited
		return final, s, nil
	}
	work := filepath.Join(c.dir, "unfinished-"+name) // at most one exists: the lock is held
	if err := errors.Join(os.RemoveAll(work), os.RemoveAll(final), os.MkdirAll(work, 0o755)); err != nil {
		return "", stamp{}, err
	}
	s, err := build(ctx, work)
	if err != nil {
		return "", stamp{}, errors.Join(fmt.Errorf("get %s: %w", name, err), os.RemoveAll(work))
	}
	s.Component, s.Made = name, time.Now().UTC()
	text, err := json.MarshalIndent(s, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(work, stampFile), text, 0o644)
	}
	if err == nil {
		err = os.Rename(work, final)
	}
	return final, s, err
}

// lock waits until no other process works on name.
func (c *cache) lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache folder: %w; set DOUBLETAP_TESTENV_CACHE to a folder that can be written", err)
	}
	l := flock.New(filepath.Join(c.dir, name+".lock"))
	if ok, err := l.TryLock(); err == nil && ok {
		return func() { _ = l.Unlock() }, nil
	}
	c.log(name + ": waiting for another process that is getting it")
	if _, err := l.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return nil, fmt.Errorf("wait for another process that is getting %s: %w", name, err)
	}
	return func() { _ = l.Unlock() }, nil
}

// template returns a folder of data that build initialised once; it is made locally, so NoDownload does not forbid it.
func (c *cache) template(ctx context.Context, name, recipe string, build func(ctx context.Context, dir string) error) (string, error) {
	local := &cache{dir: c.dir, log: c.log}
	dir, _, err := local.folder(ctx, "template-"+name, recipe, func(ctx context.Context, dir string) (stamp, error) {
		return stamp{}, build(ctx, dir)
	})
	return dir, err
}

func readStamp(dir string) (s stamp, err error) {
	text, err := os.ReadFile(filepath.Join(dir, stampFile))
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(text, &s)
}

func hash32(text string) uint32 {
	h := fnv.New32a()
	_, _ = io.WriteString(h, text)
	return h.Sum32()
}

// copyTree copies the regular files and folders of a template. Its files are small, and io.Copy lets the kernel copy or
// share the blocks.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || rel == stampFile {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, info.Mode().Perm())
		}
		if !d.Type().IsRegular() {
			return nil
		}
		return copyFile(path, target, info.Mode().Perm())
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
