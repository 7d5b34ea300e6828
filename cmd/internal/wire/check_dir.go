package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

const dirFix = "log.embedded.dir must be a folder that this user may write, or may make"

// checkDir looks whether the embedded log's folder can be written, or made, and
// changes nothing. Whether another process has it open is not looked at: with -check
// that is the usual case.
func (a *App) checkDir() []pipeline.Finding {
	dir := a.Config.Log.Embedded.Dir
	if err := mayWrite(dir); err != nil {
		return []pipeline.Finding{{Severity: pipeline.Refusal, Check: "log", Problem: fmt.Sprintf("%s cannot hold the log: %v", dir, err), Fix: dirFix}}
	}
	return nil
}

// mayWrite returns why nothing can be written in a folder, or in the nearest one
// above it that exists, in which it would have to be made.
func mayWrite(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir:
		return mayWrite(filepath.Dir(dir))
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is a file", dir)
	}
	const write, search = 2, 1 // access(2)
	if err := syscall.Access(dir, write|search); err != nil {
		return fmt.Errorf("write in %s: %w", dir, err)
	}
	return nil
}
