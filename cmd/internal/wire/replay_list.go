package wire

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// listFile is the copy of a list that came from standard input.
const listFile = "list"

func (r *replaying) copyList(dir string) error {
	if isTerminal(r.stdin) {
		r.say("reading the list from the terminal, one entry on a line; Ctrl-D ends it")
	}
	return copyList(dir, r.stdin)
}

// copyList copies standard input to the state folder, so that a replay which was
// killed can go on without it.
func copyList(dir string, in io.Reader) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the replay's folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, listFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("copy the list: %w", err)
	}
	_, err = io.Copy(f, in)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("copy the list: %w", err)
	}
	return nil
}

// sameList says whether standard input is the list that was copied, or empty.
func sameList(dir string, in io.Reader) (bool, error) {
	if isTerminal(in) {
		return true, nil
	}
	f, err := os.Open(filepath.Join(dir, listFile))
	if err != nil {
		return false, fmt.Errorf("compare the list: %w", err)
	}
	defer f.Close()
	given, had := bufio.NewReader(in), bufio.NewReader(f)
	if _, err := given.ReadByte(); err == io.EOF {
		return true, nil
	} else if err == nil {
		err = given.UnreadByte()
		if err != nil {
			return false, fmt.Errorf("compare the list: %w", err)
		}
	}
	for {
		a, errA := given.ReadByte()
		b, errB := had.ReadByte()
		switch {
		case errA == io.EOF && errB == io.EOF:
			return true, nil
		case errA != nil && errA != io.EOF:
			return false, fmt.Errorf("read the list from standard input: %w", errA)
		case errB != nil && errB != io.EOF:
			return false, fmt.Errorf("compare the list: %w", errB)
		case a != b || errA != errB:
			return false, nil
		}
	}
}
