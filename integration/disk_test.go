package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// TestFullDisk fills the disk under the embedded log. The pipeline says so, goes on by itself when there is room again,
// and loses nothing, even when it was killed meanwhile.
func TestFullDisk(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(map[bool]string{false: "space returns", true: "killed meanwhile"}[killed], func(t *testing.T) {
			r := newRig(t, options{embedded: true})
			d := newDisk(t, filepath.Join(r.dir, "data"))
			p, _ := r.pipeline(0)
			r.settle()
			r.mark()
			d.fill(t, p)
			w := &workload{r: r, writers: 2, ops: 100}
			w.run(t.Context())
			w.bulk(10_000_000, 50_000)
			eventually(t, stalled, "the log says that the disk is full", func() bool {
				out := p.Log()
				return strings.Contains(out, "no space left on device") || strings.Contains(out, "file too large")
			})
			w.run(t.Context())
			if killed {
				p.Kill()
				p = r.again(p) // it finds the disk as it is
			}
			d.free(t, p)
			p.ready()
			r.settle()
			r.require(r.ask(nil))
		})
	}
}

// disk can be full: a small file system of its own where this process may mount one, elsewhere a limit on the size of
// the pipeline's files.
type disk struct {
	dir     string
	mounted bool
}

func newDisk(t *testing.T, dir string) *disk {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d := &disk{dir: dir}
	if err := syscall.Mount("doubletap-test", dir, "tmpfs", 0, "size=64m"); err == nil {
		d.mounted = true
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	} else {
		t.Logf("no file system of its own (%v): the size of files is limited instead", err)
	}
	return d
}

func (d *disk) ballast() string { return filepath.Join(d.dir, "ballast") }

func (d *disk) fill(t *testing.T, p *process) {
	t.Helper()
	if d.mounted {
		var st syscall.Statfs_t
		if err := syscall.Statfs(d.dir, &st); err != nil {
			t.Fatal(err)
		}
		const left = 256 << 10
		if err := os.WriteFile(d.ballast(), make([]byte, int64(st.Bavail)*st.Bsize-left), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	largest := int64(0)
	files, _ := os.ReadDir(d.dir)
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			largest = max(largest, info.Size())
		}
	}
	limitFiles(t, p, uint64(largest+64<<10))
}

func (d *disk) free(t *testing.T, p *process) {
	t.Helper()
	if d.mounted {
		if err := os.Remove(d.ballast()); err != nil {
			t.Fatal(err)
		}
		return
	}
	limitFiles(t, p, ^uint64(0))
}

// limitFiles sets another process's limit on the size of files; its standard output is a file too, far smaller.
func limitFiles(t *testing.T, p *process, bytes uint64) {
	t.Helper()
	const fileSize = 1 // RLIMIT_FSIZE
	limit := syscall.Rlimit{Cur: bytes, Max: ^uint64(0)}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(p.Pid()), fileSize, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno != 0 {
		t.Fatal(fmt.Errorf("limit the size of files to %d: %w", bytes, errno))
	}
}
