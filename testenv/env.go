package testenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gofrs/flock"
)

// errNotCached is returned where a server would have to be downloaded and Options.NoDownload forbids it.
var errNotCached = errors.New("server is not in the cache: run make test, or set TESTENV=native, which downloads it")

// Options are the settings of Open; the zero value is usable.
type Options struct {
	Mode       Mode              // default Auto
	CacheDir   string            // unpacked servers; default $DOUBLETAP_TESTENV_CACHE, else doubletap-testenv in the user's cache folder
	DataDir    string            // where the data of running servers goes; default the system's folder for temporary files
	Log        func(line string) // progress lines; default none; called from several goroutines
	NoDownload bool              // fail with errNotCached instead of downloading or pulling
}

// Env is a set of running servers. Its methods may be called concurrently.
type Env struct {
	cache   *cache
	root    string       // data of this environment's servers
	lock    *flock.Flock // held on root while this process lives
	backend backend
	serial  atomic.Int64

	mu       sync.Mutex
	servers  []*Server
	versions map[string][]string // by backend: "mysqld 9.7.4", in order of first start
	closed   bool
}

// backend starts servers as processes or as containers.
type backend interface {
	name() string
	// launch prepares one server and returns it stopped, with the name of the backend that runs it; what it needs on disk is
	// below dir.
	launch(ctx context.Context, spec *spec, dir string) (inst instance, by string, err error)
	// tool returns the command line that runs one of the servers' own tools.
	tool(ctx context.Context, name string) ([]string, error)
	close() error
}

// Open chooses how servers will be started and sweeps what dead processes left behind. It starts no server and downloads
// nothing. The caller must Close the result.
func Open(ctx context.Context, o Options) (*Env, error) {
	if o.Log == nil {
		o.Log = func(string) {}
	}
	if o.DataDir == "" {
		o.DataDir = os.TempDir()
	}
	cacheDir, err := cacheDir(o.CacheDir)
	if err != nil {
		return nil, err
	}
	sweep(o.DataDir, o.Log)
	e := &Env{versions: map[string][]string{}, cache: &cache{dir: cacheDir, log: o.Log, noDownload: o.NoDownload}}
	if e.root, e.lock, err = newRoot(o.DataDir); err != nil {
		return nil, err
	}
	if e.backend, err = chooseBackend(ctx, o, e); err != nil {
		return nil, errors.Join(err, e.removeRoot())
	}
	return e, nil
}

func cacheDir(dir string) (string, error) {
	if dir == "" {
		dir = os.Getenv("DOUBLETAP_TESTENV_CACHE")
	}
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache folder: %w; set DOUBLETAP_TESTENV_CACHE", err)
		}
		dir = filepath.Join(user, "doubletap-testenv")
	}
	return filepath.Abs(dir)
}

// Describe says in one line how servers are started and which ones have been.
func (e *Env) Describe() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.versions) == 0 {
		return e.backend.name() + ": no server started yet"
	}
	var parts []string
	for _, by := range slices.Sorted(maps.Keys(e.versions)) {
		parts = append(parts, by+": "+strings.Join(e.versions[by], ", "))
	}
	return strings.Join(parts, "; ")
}

// Tool returns the command line that runs one of the servers' own tools: "mysql", "mysqlbinlog", "mariadb",
// "mariadb-binlog", "redis-cli", "valkey-cli", "kafka-console-consumer", "kafka-topics", "kafka-consumer-groups". It may
// download what the tool belongs to.
func (e *Env) Tool(name string) (cmd []string, err error) {
	return e.backend.tool(context.Background(), name)
}

// Close kills every server and removes its data. It is idempotent.
func (e *Env) Close() error {
	e.mu.Lock()
	servers := e.servers
	closed := e.closed
	e.servers, e.closed = nil, true
	e.mu.Unlock()
	if closed {
		return nil
	}
	var errs []error
	for _, s := range slices.Backward(servers) {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, e.backend.close(), e.removeRoot())...)
}

func (e *Env) removeRoot() error {
	err := os.RemoveAll(e.root)
	return errors.Join(err, e.lock.Unlock())
}

// newDir makes a folder for one server's data.
func (e *Env) newDir(kind string) (string, error) {
	dir := filepath.Join(e.root, fmt.Sprintf("%s-%d", kind, e.serial.Add(1)))
	return dir, os.MkdirAll(dir, 0o755)
}

// add records a started server.
func (e *Env) add(s *Server) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errors.Join(errors.New("testenv is closed"), s.Close())
	}
	e.servers = append(e.servers, s)
	if v := s.Kind + " " + s.Version(); !slices.Contains(e.versions[s.by], v) {
		e.versions[s.by] = append(e.versions[s.by], v)
	}
	return nil
}

const rootPrefix = "doubletap-testenv-"

// newRoot makes the data folder and locks it; the lock is how others see that its owner lives.
func newRoot(parent string) (string, *flock.Flock, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", nil, err
	}
	root, err := os.MkdirTemp(parent, rootPrefix)
	if err != nil {
		return "", nil, err
	}
	lock := flock.New(filepath.Join(root, "lock"))
	if err := lock.Lock(); err != nil {
		return "", nil, errors.Join(fmt.Errorf("lock %s: %w", root, err), os.RemoveAll(root))
	}
	return root, lock, nil
}

// rootInUse tells whether the environment that made root still lives.
func rootInUse(root string) bool {
	path := filepath.Join(root, "lock")
	if _, err := os.Stat(path); err != nil {
		return false
	}
	lock := flock.New(path)
	free, err := lock.TryLock()
	if free {
		_ = lock.Unlock()
	}
	return err != nil || !free
}

// sweep removes the data of environments whose owner died, and ends servers that outlived it (none should: see process.go).
func sweep(parent string, log func(string)) {
	old, _ := filepath.Glob(filepath.Join(parent, rootPrefix+"*"))
	for _, root := range old {
		path := filepath.Join(root, "lock")
		// A folder without its lock is being made, or being removed, by a living process.
		if _, err := os.Stat(path); err != nil {
			continue
		}
		lock := flock.New(path)
		if free, err := lock.TryLock(); err != nil || !free {
			continue
		}
		killLeftovers(root)
		if err := os.RemoveAll(root); err != nil && !errors.Is(err, fs.ErrPermission) {
			log("remove the data of a dead run: " + err.Error())
		}
		_ = lock.Unlock()
	}
}
