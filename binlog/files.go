package binlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// FilesConfig says which binlog files to read.
type FilesConfig struct {
	// Config has the name, the key schema and the logger. With an Addr the server
	// there is asked for column names that the files lack; nothing else is.
	Config
	Paths []string // files, and folders that hold those of one server
	// Earlier may be nil. What it found in a file that has not changed since is not
	// looked for again.
	Earlier *Files
}

// Files reads binlog files as MySQL and MariaDB write them, such as copies in
// an archive; the server may be gone. It is a pipeline.Source that has an end:
// Run fails with pipeline.ErrFatal behind the last file.
//
// What the files do not hold is what a server would call purged: all before the
// first of them, and, of MySQL, what lies between two of them.
type Files struct {
	history
	files []binlogFile // in the order in which they were written
	names columnNames

	looking sync.Mutex
	have    *inventory
	earlier map[string]lookedAt // by path
}

var _ pipeline.Source = (*Files)(nil)

// NewFiles finds the files and reads the beginning of each. The error names a
// file that cannot be read: one that is encrypted or compressed, or written
// without GTIDs, or none at all.
func NewFiles(cfg FilesConfig) (*Files, error) {
	if cfg.Schema == nil {
		return nil, errors.New("the source has no key schema")
	}
	found, err := findFiles(cfg.Paths)
	if err != nil {
		return nil, err
	}
	f := &Files{files: found, names: columnNames{cfg: cfg.Config}, earlier: cfg.Earlier.found()}
	f.history = history{cfg: cfg.Config, srv: found[0].server}
	for _, file := range found[1:] {
		if file.server.Flavor != f.srv.Flavor {
			return nil, fmt.Errorf("%s is of %s and %s is of %s: give the files of one server", found[0].path, f.srv.Flavor, file.path, file.server.Flavor)
		}
	}
	return f, nil
}

// look reads through the files once, for where transactions begin and end.
func (f *Files) look(ctx context.Context) (*inventory, error) {
	f.looking.Lock()
	defer f.looking.Unlock()
	if f.have == nil {
		have, err := f.scan(ctx)
		if err != nil {
			return nil, err
		}
		f.have = have
	}
	return f.have, nil
}

// Notes returns, in whole sentences, what is missing from the files or cut off.
// The first call reads through all of them.
func (f *Files) Notes(ctx context.Context) ([]string, error) {
	have, err := f.look(ctx)
	if err != nil {
		return nil, err
	}
	return have.notes, nil
}

// InOrder says whether each file was written behind all that the files before it
// hold. Those of two servers need not be, such as an archive across a failover.
func (f *Files) InOrder(ctx context.Context) (bool, error) {
	have, err := f.look(ctx)
	if err != nil {
		return false, err
	}
	return have.inOrder, nil
}

// Start implements pipeline.Source: current is the end of the files, earliest
// their beginning.
func (f *Files) Start(ctx context.Context, spec string) (pipeline.Position, error) {
	have, err := f.look(ctx)
	if err != nil {
		return "", err
	}
	switch spec {
	case "current", "":
		return f.position(have.executed), nil
	case "earliest":
		return f.position(have.gone), nil
	}
	set, err := gtid.Parse(spec)
	if err != nil {
		return "", fmt.Errorf("%w: it is none of current, earliest, and a GTID set: %w", pipeline.ErrFatal, err)
	}
	if why := have.cannotResume(set); why != "" {
		return "", fmt.Errorf("%w: %s", pipeline.ErrFatal, why)
	}
	return f.position(set), nil
}

func (f *Files) position(set gtid.Set) pipeline.Position {
	return position{Flavor: f.srv.Flavor, Set: set.String()}.encode()
}

func (h *inventory) cannotResume(set gtid.Set) string {
	switch {
	case !h.executed.HasAll(set):
		return fmt.Sprintf("the files end before %q does; they go up to %q", set, h.executed)
	case !set.HasAll(h.gone):
		return fmt.Sprintf("the files do not hold all that follows %q; they lack %q", set, h.gone)
	}
	return ""
}

// Check implements pipeline.Source.
func (f *Files) Check(ctx context.Context, p pipeline.Position) error {
	have, err := f.look(ctx)
	if err != nil {
		return err
	}
	set, err := f.set(p)
	if err != nil {
		return err
	}
	if why := have.cannotResume(set); why != "" {
		return &pipeline.GapError{Reason: why, Next: f.position(have.executed)}
	}
	return nil
}

func (f *Files) set(p pipeline.Position) (gtid.Set, error) {
	pos, err := parsePosition(p)
	if err != nil {
		return gtid.Set{}, err
	}
	if pos.Flavor != f.srv.Flavor {
		return gtid.Set{}, fmt.Errorf("%w: the position is one of %s, the files are of %s", pipeline.ErrFatal, pos.Flavor, f.srv.Flavor)
	}
	return gtid.Parse(pos.Set)
}

// Since does for the files what the function Since does for a server.
func (f *Files) Since(ctx context.Context, t time.Time) (pipeline.Position, time.Time, error) {
	have, err := f.look(ctx)
	if err != nil {
		return "", time.Time{}, err
	}
	at, _ := begunBefore(len(f.files), t, func(i int) (time.Time, error) { return f.files[i].begun, nil }) // never fails
	set := f.files[at].before
	set.Union(have.gone)
	return f.position(set), f.files[at].begun, nil
}

// Run implements pipeline.Source.
func (f *Files) Run(ctx context.Context, from pipeline.Position, fn func(context.Context, pipeline.Batch) error) error {
	set, err := f.set(from)
	if err != nil {
		return err
	}
	have, err := f.look(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := newDecoder(ctx, f.cfg, f.srv, fn)
	d.have = set.Has
	d.plans.names = func(p *plan, t *tableMap) error {
		err := f.names.fill(ctx, p, t, f.srv.MariaDB())
		if err != nil { // the decoder ends before its next event
			cancel(err)
		}
		return err
	}
	for _, file := range f.files[have.first(set):] {
		if _, err := file.each(ctx, true, d.HandleEvent); err != nil {
			if errors.Is(err, context.Canceled) {
				return context.Cause(ctx)
			}
			return err
		}
	}
	return fmt.Errorf("%w: the binlog files were read to their end", pipeline.ErrFatal)
}

// first returns the first file that holds anything that is not in the set, or the
// last one.
func (h *inventory) first(set gtid.Set) int {
	for i := range h.files {
		if !set.HasAll(h.files[i].holds) {
			return i
		}
	}
	return len(h.files) - 1
}
