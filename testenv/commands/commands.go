// Package commands builds this module's commands and runs them as a user does:
// for the demo, the race harness, the benchmark and tests.
//
// A process is a child of the one that started it and dies with it, however that
// ends: the kernel kills it then (SIGKILL). It has a process group of its own: an
// interrupt from the keyboard is for the one who started it, and who then stops it
// in order. Nothing is found or killed by its name.
package commands

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// The commands' names.
const (
	Tailer      = "binlog-tailer"
	Invalidator = "invalidator"
	Replay      = "replay"
)

const packages = "github.com/doubletap-cdc/doubletap/cmd/..."

// Build builds all commands into a folder, with flags of go build such as -race.
// It blocks until they are built; when ctx ends, the go command is killed. The
// working folder must be inside the module.
func Build(ctx context.Context, dir string, flags ...string) error {
	return build(ctx, dir, nil, flags)
}

// BuildRelease is Build with what make build gives to go build.
func BuildRelease(ctx context.Context, dir string) error {
	return build(ctx, dir, []string{"CGO_ENABLED=0"}, []string{"-trimpath", "-ldflags=-s -w"})
}

func build(ctx context.Context, dir string, env, flags []string) error {
	args := append([]string{"build", "-o", dir + string(filepath.Separator)}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, packages)...)
	cmd.Env = append(os.Environ(), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the commands (the working folder must be inside the repository): %w\n%s", err, text)
	}
	return nil
}

var built struct {
	once sync.Once
	dir  string
	err  error
}

// BuildOnce is Build for tests: it builds once in the life of this process, and
// returns the folder, which lies beside the test binary, where go test removes it.
// The flags are those of the first call. It may be called concurrently; everybody
// waits for the one build, which nothing ends early.
//
// It also looks at every Go file of the module, so that go test does not take an
// earlier result for this one when only the commands have changed, which the test
// binary does not contain.
func BuildOnce(flags ...string) (dir string, err error) {
	built.once.Do(func() { built.dir, built.err = buildOnce(flags) })
	return built.dir, built.err
}

func buildOnce(flags []string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if err := noteSources(); err != nil {
		return "", fmt.Errorf("look at the commands' sources: %w", err)
	}
	dir := filepath.Join(filepath.Dir(self), "commands-"+strconv.Itoa(os.Getpid()))
	return dir, Build(context.Background(), dir, flags...)
}

func noteSources() error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case filepath.Ext(path) == ".go":
			_, err = os.Stat(path)
		}
		return err
	})
}

// moduleRoot is the folder above the working folder that has the go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		above := filepath.Dir(dir)
		if above == dir {
			return "", errors.New("the working folder is in no module")
		}
		dir = above
	}
}
