package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Positions returns the checkpoint of a source.
func (e *Embedded) Positions(source string) pipeline.Positions { return embeddedPositions{e, source} }

type embeddedPositions struct {
	e      *Embedded
	source string
}

// Load implements pipeline.Positions. Where the log has lost records since the
// checkpoint was stored, its Pending says so.
func (p embeddedPositions) Load(ctx context.Context) (pipeline.Checkpoint, error) {
	if err := ctx.Err(); err != nil {
		return pipeline.Checkpoint{}, err
	}
	stored, ok, err := get[storedPosition](p.e.state, positionsBucket, p.source)
	if err != nil {
		return pipeline.Checkpoint{}, fmt.Errorf("load the position of %q: %w", p.source, err)
	}
	c := pipeline.Checkpoint{Position: pipeline.Position(stored.Position), Pending: stored.Pending, Prepared: stored.Prepared}
	if ok && stored.Incarnation != p.e.state.incarnation && c.Pending == "" {
		c.Pending = "the log lost records that the stored position counts as published"
	}
	return c, nil
}

// Save implements pipeline.Positions.
func (p embeddedPositions) Save(ctx context.Context, c pipeline.Checkpoint) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := put(p.e.state, positionsBucket, p.source, storedPosition{
		Incarnation: p.e.state.incarnation, End: p.e.tail.syncedEnd(), Position: string(c.Position), Pending: c.Pending, Prepared: c.Prepared,
	})
	if err != nil {
		return fmt.Errorf("store the position of %q: %w", p.source, err)
	}
	return nil
}

// DeadLetters returns the log's dead letters: dead.jsonl in its folder, one
// JSON object per line, for an operator to read, move away or delete.
func (e *Embedded) DeadLetters() pipeline.DeadLetters { return e.dead }

// deadFile is a file of JSON lines.
type deadFile struct {
	path string
	mu   sync.Mutex
	file *os.File
}

// openDeadFile opens the file and cuts off a line that a crash left unfinished.
func openDeadFile(path string) (*deadFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the dead letters: %w", err)
	}
	d := &deadFile{path: path, file: f}
	if err := errors.Join(d.cut(), syncDir(filepath.Dir(path))); err != nil {
		return nil, errors.Join(fmt.Errorf("open the dead letters in %s: %w", path, err), f.Close())
	}
	return d, nil
}

// cut truncates the file after its last whole line.
func (d *deadFile) cut() error {
	size, err := d.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for whole := size; whole > 0; {
		n := min(whole, int64(len(buf)))
		if _, err := d.file.ReadAt(buf[:n], whole-n); err != nil {
			return err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return d.file.Truncate(whole - n + int64(i) + 1)
		}
		whole -= n
	}
	return d.file.Truncate(0)
}

// Add implements pipeline.DeadLetters.
func (d *deadFile) Add(ctx context.Context, letter pipeline.DeadLetter) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	line, err := json.Marshal(letter)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	end, err := d.file.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = d.file.Write(append(line, '\n'))
	}
	if err == nil {
		err = d.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("store a dead letter in %s: %w", d.path, errors.Join(err, d.file.Truncate(end)))
	}
	return nil
}

func (d *deadFile) close() error { return d.file.Close() }
