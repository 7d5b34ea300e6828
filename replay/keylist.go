package replay

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// maxKey is the longest key that a list may name, in bytes.
const maxKey = 64 << 10

// byteOrderMark is what some editors begin a file with.
const byteOrderMark = "\ufeff"

// KeyListSpec says which list of keys is replayed.
type KeyListSpec struct {
	// Path is a file of Redis keys in UTF-8, one per line. A line ends with \n or
	// \r\n. A byte order mark is no part of the first key.
	Path string `json:"path"`
	// Chunk is how many keys go at once; 0 is 5000.
	Chunk int `json:"chunk,omitempty"`
	// Size is the file's size in bytes, set by Plan: a file that has another one
	// when the replay goes on is not the same.
	Size int64 `json:"size,omitempty"`
}

// KeyList is the Source that reads a list of keys.
type KeyList struct {
	KeyListSpec
	// Name and Schema are for the events: the source's name in the configuration
	// and the hash of the key schema.
	Name, Schema string
	// GTIDs, if not nil, returns the transactions that the source shows now: second
	// deletes wait until every server that fills read from shows them, too. Without
	// it they come after the fixed delay.
	GTIDs func(context.Context) (string, error)
	// Hooks tells of retries (Retry, Recovered).
	Hooks pipeline.Hooks
}

// keyListCursor is where a KeyList goes on.
type keyListCursor struct {
	Offset int64 `json:"offset"`
	Line   int64 `json:"line"` // lines before Offset
}

// Plan implements Source. It reads the whole file: what cannot be replayed is
// refused before anything is deleted.
func (l *KeyList) Plan(ctx context.Context) (Plan, error) {
	path, err := filepath.Abs(l.Path)
	if err != nil {
		return Plan{}, fmt.Errorf("find the list of keys: %w", err)
	}
	l.Path = path
	var found, empty int64
	l.Size = 0
	err = l.lines(ctx, keyListCursor{}, func(key string, at keyListCursor) error {
		if key == "" {
			empty++
		} else {
			found++
		}
		l.Size = at.Offset
		return nil
	})
	if err != nil {
		return Plan{}, err
	}
	if found == 0 {
		return Plan{}, fmt.Errorf("the list of keys %s has no keys: give one key per line", path)
	}
	fixed, err := json.Marshal(l.KeyListSpec)
	if err != nil {
		return Plan{}, fmt.Errorf("plan the replay of %s: %w", path, err)
	}
	p := Plan{What: []string{fmt.Sprintf("the keys in %s: %d", path, found)}, Rows: found + empty, Fixed: fixed}
	if empty > 0 {
		p.Warnings = append(p.Warnings, fmt.Sprintf("%d empty lines are skipped.", empty))
	}
	return p, nil
}

// Read implements Source.
func (l *KeyList) Read(ctx context.Context, from Cursor, fn func(context.Context, Chunk) error) error {
	var at keyListCursor
	if from != "" {
		if err := json.Unmarshal([]byte(from), &at); err != nil {
			return fmt.Errorf("go on in %s: cursor %q: %w", l.Path, from, err)
		}
	}
	info, err := os.Stat(l.Path)
	if err != nil {
		return fmt.Errorf("open the list of keys: %w", err)
	}
	if l.Size > 0 && info.Size() != l.Size {
		return fmt.Errorf("the list of keys %s has %d bytes and had %d when the replay was planned: begin a new replay of it", l.Path, info.Size(), l.Size)
	}
	b := listBuilder{l: l, size: int64(cmp.Or(l.Chunk, 5000)), bytes: info.Size(), at: at, fn: fn}
	err = l.lines(ctx, at, func(key string, next keyListCursor) error { return b.add(ctx, key, next) })
	if err != nil {
		return err
	}
	return b.flush(ctx)
}

// listBuilder makes chunks of lines.
type listBuilder struct {
	l     *KeyList
	size  int64 // lines of a chunk
	bytes int64 // of the file
	at    keyListCursor
	fn    func(context.Context, Chunk) error
	rows  int64
	texts []string
}

func (b *listBuilder) add(ctx context.Context, key string, next keyListCursor) error {
	b.at = next
	b.rows++
	if key != "" {
		b.texts = append(b.texts, key)
	}
	if b.rows < b.size {
		return nil
	}
	return b.flush(ctx)
}

func (b *listBuilder) flush(ctx context.Context) error {
	if b.rows == 0 {
		return nil
	}
	events, err := b.l.event(ctx, b.texts)
	if err != nil {
		return err
	}
	c := Chunk{
		Events: events, Rows: b.rows, Done: float64(b.at.Offset) / float64(max(b.bytes, 1)),
		Next: Cursor(fmt.Sprintf(`{"offset":%d,"line":%d}`, b.at.Offset, b.at.Line)),
	}
	b.rows, b.texts = 0, nil
	return b.fn(ctx, c)
}

func (l *KeyList) event(ctx context.Context, texts []string) ([]pipeline.Event, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	gtids := ""
	if l.GTIDs != nil {
		err := pipeline.Retry(ctx, &l.Hooks, "ask the source for its transactions", func(ctx context.Context) (err error) {
			gtids, err = l.GTIDs(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return []pipeline.Event{{
		Version: pipeline.Version, Kind: pipeline.KindKeys, Source: l.Name, Schema: l.Schema, GTID: gtids,
		Keys: texts, Reason: "a list of keys",
	}}, nil
}

// lines calls fn for each line from a place on, with the place behind it.
func (l *KeyList) lines(ctx context.Context, at keyListCursor, fn func(key string, next keyListCursor) error) error {
	f, err := os.Open(l.Path)
	if err != nil {
		return fmt.Errorf("open the list of keys: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	if _, err := f.Seek(at.Offset, io.SeekStart); err != nil {
		return fmt.Errorf("read the list of keys: %w", err)
	}
	in := bufio.NewReaderSize(f, maxKey+len(byteOrderMark)+len("\r\n"))
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		line, err := in.ReadSlice('\n')
		at.Offset += int64(len(line))
		switch {
		case err == io.EOF && len(line) == 0:
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			return l.refuse(at.Line+1, "longer than "+strconv.Itoa(maxKey)+" bytes")
		case err != nil && err != io.EOF:
			return fmt.Errorf("read the list of keys %s: %w", l.Path, err)
		}
		at.Line++
		key := strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r")
		if at.Line == 1 {
			key = strings.TrimPrefix(key, byteOrderMark)
		}
		switch {
		case len(key) > maxKey:
			return l.refuse(at.Line, "longer than "+strconv.Itoa(maxKey)+" bytes")
		case !utf8.ValidString(key):
			return l.refuse(at.Line, "not UTF-8, and no event can hold it")
		}
		if err := fn(key, at); err != nil {
			return err
		}
	}
}

func (l *KeyList) refuse(line int64, why string) error {
	return fmt.Errorf("line %d of the list of keys %s is %s: is it a list of keys, one per line?", line, l.Path, why)
}
