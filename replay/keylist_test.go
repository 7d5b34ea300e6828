package replay

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

func writeList(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.txt")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKeyList(t *testing.T) {
	long := strings.Repeat("k", maxKey)
	path := writeList(t, "\ufeffitem:1\n\nitem 2 \r\n  item:3\n\n"+long+"\r\nitem:*\nlast")
	want := []string{"item:1", "item 2 ", "  item:3", long, "item:*", "last"}
	l := &KeyList{KeyListSpec: KeyListSpec{Path: path, Chunk: 3}, Name: "shop", Schema: "8f2b",
		GTIDs: func(context.Context) (string, error) { return uuid + ":1-9", nil }}
	p, err := l.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.Rows != 8 || len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "2 empty lines") || !strings.Contains(p.What[0], ": 6") {
		t.Errorf("%+v", p)
	}
	var cursors []Cursor
	var got []string
	done := 0.0
	err = l.Read(t.Context(), "", func(_ context.Context, c Chunk) error {
		for _, e := range c.Events {
			if e.Kind != pipeline.KindKeys || e.GTID != uuid+":1-9" || e.Source != "shop" || e.Schema != "8f2b" {
				t.Errorf("%+v", e)
			}
			got = append(got, e.Keys...)
		}
		cursors, done = append(cursors, c.Next), c.Done
		return nil
	})
	if err != nil || !slices.Equal(got, want) || done != 1 {
		t.Fatalf("read %q up to %v: %v", got, done, err)
	}
	// From each cursor the rest comes, and nothing else.
	for i, from := range cursors {
		var rest []string
		err := l.Read(t.Context(), from, func(_ context.Context, c Chunk) error {
			for _, e := range c.Events {
				rest = append(rest, e.Keys...)
			}
			return nil
		})
		if err != nil || !slices.Equal(rest, want[len(want)-len(rest):]) || i == len(cursors)-1 && len(rest) > 0 || i == 0 && len(rest) != 4 {
			t.Errorf("from %s: %q, %v", from, rest, err)
		}
	}
}

func TestKeyListRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "has no keys"},
		{"only empty lines", "\n\r\n\n", "has no keys"},
		{"a long key", "a\n" + strings.Repeat("k", maxKey+1) + "\n", "line 2 of the list of keys"},
		{"a very long key", "a\nb\n" + strings.Repeat("k", 3*maxKey), "line 3 of the list of keys"},
		{"not text", "a\nb\xff\n", "line 2 of the list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := &KeyList{KeyListSpec: KeyListSpec{Path: writeList(t, c.text)}}
			if _, err := l.Plan(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := (&KeyList{KeyListSpec: KeyListSpec{Path: filepath.Join(t.TempDir(), "no")}}).Plan(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestKeyListLongBehindAMark: a byte order mark does not count for the length.
func TestKeyListLongBehindAMark(t *testing.T) {
	long := strings.Repeat("k", maxKey)
	l := &KeyList{KeyListSpec: KeyListSpec{Path: writeList(t, "\ufeff"+long+"\r\n\ufeffkept")}}
	var got []string
	err := l.Read(t.Context(), "", func(_ context.Context, c Chunk) error { got = append(got, c.Events[0].Keys...); return nil })
	if err != nil || !slices.Equal(got, []string{long, "\ufeffkept"}) {
		t.Errorf("%d keys: %v", len(got), err)
	}
}

// TestKeyListChanged: a file that grew is another list; its cursor means nothing.
func TestKeyListChanged(t *testing.T) {
	path := writeList(t, "a\nb\n")
	l := &KeyList{KeyListSpec: KeyListSpec{Path: path}}
	if _, err := l.Plan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("a\nb\nc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := l.Read(t.Context(), "", func(context.Context, Chunk) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "has 6 bytes and had 4") {
		t.Errorf("%v", err)
	}
}

// TestKeyListFlow: an error of the taker ends the reading and comes back as it is.
func TestKeyListFlow(t *testing.T) {
	l := &KeyList{KeyListSpec: KeyListSpec{Path: writeList(t, "a\nb\nc\n"), Chunk: 1}}
	full, n := errors.New("full"), 0
	err := l.Read(t.Context(), "", func(context.Context, Chunk) error {
		n++
		return full
	})
	if err != full || n != 1 { //nolint:errorlint // as it is
		t.Errorf("%v after %d chunks", err, n)
	}
}
