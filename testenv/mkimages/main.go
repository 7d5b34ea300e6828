// Mkimages builds container images of the servers that tests use, from the folders that testenv unpacks, so that
// TESTENV=docker can be exercised on an engine that reaches no registry:
//
//	go run ./testenv/mkimages            # all
//	go run ./testenv/mkimages mysql redis
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/doubletap-cdc/doubletap/testenv"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mkimages:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, components []string, out io.Writer) (err error) {
	if len(components) == 0 {
		components = testenv.Components()
	}
	dir, err := os.MkdirTemp("", "mkimages-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	entry := filepath.Join(dir, "entry")
	build := exec.CommandContext(ctx, "go", "build", "-o", entry, "github.com/doubletap-cdc/doubletap/testenv/mkimages/entry")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the images' entry program: %w\n%s", err, text)
	}
	o := testenv.Options{Log: func(line string) { fmt.Fprintln(out, line) }}
	for _, c := range components {
		name, err := testenv.BuildImage(ctx, o, c, entry)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, "built", name)
	}
	return nil
}
