package bus

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// The tests of this file run this test binary again as a child, which is one of
// these programs instead of a test.
const childVariable = "DOUBLETAP_BUS_TEST_CHILD"

func TestMain(m *testing.M) {
	program, arg, _ := strings.Cut(os.Getenv(childVariable), " ")
	switch program {
	case "":
		envtest.Main(m)
	case "append":
		childAppend(arg)
	case "full":
		childFull(arg)
	}
}

func child(t *testing.T, program, dir string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), exe)
	c.Env = append(os.Environ(), childVariable+"="+program+" "+dir)
	c.Stderr = t.Output()
	return c
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func childRecord(i int64) []byte {
	return fmt.Appendf(nil, "%d %s", i, bytes.Repeat([]byte{byte(i)}, int(i*37%900)))
}

// childAppend appends to a log until it is killed, and prints each offset below
// which everything was acknowledged.
func childAppend(dir string) {
	e, err := OpenEmbedded(EmbeddedConfig{Dir: dir})
	must(err)
	e.disk.bytes = 100_000
	_, next := e.Bounds()
	for {
		var records []pipeline.Record
		for range 1 + next%7 {
			records = append(records, pipeline.Record{Data: childRecord(next)})
			next++
		}
		below := next
		must(e.Publisher().Publish(childContext, records, func(err error) {
			must(err)
			fmt.Println(below)
		}))
	}
}

var childContext = context.Background() // of the children, which are killed

func TestEmbeddedKeepsWhatItAcknowledgedWhenKilled(t *testing.T) {
	dir := t.TempDir()
	rounds := 15
	if testing.Short() {
		rounds = 3
	}
	acked := int64(0)
	for round := range rounds {
		c := child(t, "append", dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		// Killed at another moment of its work each time: after so many acks.
		scanner := bufio.NewScanner(out)
		for i := 0; scanner.Scan(); i++ {
			if acked, err = strconv.ParseInt(scanner.Text(), 10, 64); err != nil {
				t.Fatal(err)
			}
			if i == round*11 {
				if err := c.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := c.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		checkChildLog(t, dir, acked)
	}
}

// checkChildLog opens a log that childAppend wrote and compares every record.
func checkChildLog(t *testing.T, dir string, acked int64) {
	t.Helper()
	e, err := OpenEmbedded(EmbeddedConfig{Dir: dir, Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	start, end := e.Bounds()
	if start != 0 || end < acked {
		t.Fatalf("the log has [%d, %d), but records below %d were acknowledged", start, end, acked)
	}
	for from := int64(0); from < end; {
		messages, err := e.ReadAt(from)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			if m.Offset != from || !bytes.Equal(m.Data, childRecord(from)) {
				t.Fatalf("offset %d holds %.30q", from, m.Data)
			}
			from++
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// childFull publishes with a limit on file sizes, which fails like a full disk
// and works for root and in any container. It lifts the limit when it is told to.
func childFull(dir string) {
	signal.Ignore(syscall.SIGXFSZ)
	e, err := OpenEmbedded(EmbeddedConfig{Dir: dir, MemoryTail: 200_000, Hooks: pipeline.Hooks{
		Retry: func(op string, attempt int, err error, _ time.Duration) {
			fmt.Println("retry", attempt, op, err)
		},
	}})
	must(err)
	var limit syscall.Rlimit
	must(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	limit.Cur = 300_000
	must(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	go func() {
		_, err := bufio.NewReader(os.Stdin).ReadString('\n')
		must(err)
		limit.Cur = limit.Max
		must(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	}()
	for i := range int64(2000) {
		must(e.Publisher().Publish(childContext, []pipeline.Record{{Data: childRecord(i)}}, must))
	}
	must(e.Close())
	fmt.Println("closed")
}

func TestEmbeddedWaitsForDiskSpace(t *testing.T) {
	dir := t.TempDir()
	c := child(t, "full", dir)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	closed := false
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		line := scanner.Text()
		t.Log(line)
		if strings.HasPrefix(line, "retry 3 write the log ") {
			if _, err := io.WriteString(in, "space\n"); err != nil {
				t.Fatal(err)
			}
		}
		closed = line == "closed"
	}
	if err := c.Wait(); err != nil || !closed {
		t.Fatalf("the child did not go on: %v", err)
	}
	checkChildLog(t, dir, 2000)
}

func TestEmbeddedRecoversFromATornMetaPage(t *testing.T) {
	dir := t.TempDir()
	write := func(from, to int64) {
		e, err := OpenEmbedded(EmbeddedConfig{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		acked := make(chan error, 1)
		for i := from; i < to; i++ {
			if err := e.Publisher().Publish(t.Context(), []pipeline.Record{{Data: childRecord(i)}}, func(err error) { acked <- err }); err != nil {
				t.Fatal(err)
			}
			if err := <-acked; err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write(0, 20)
	path := segmentPath(dir, 0)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// bbolt commits by writing one of two meta pages in turn, 64 bytes after a
	// 16-byte page header. A write that was torn leaves some old bytes in it; the
	// other page then still names the last but one commit.
	older, newer := 0, os.Getpagesize()
	if bytes.Compare(reversed(whole[older+64:older+72]), reversed(whole[newer+64:newer+72])) > 0 {
		older, newer = newer, older
	}
	for torn := 16; torn < 80; torn++ {
		data := bytes.Clone(whole)
		copy(data[newer+torn:newer+80], make([]byte, 80))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := openDisk(dir, testLogger(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, end := d.bounds(); end != 19 && end != 20 || torn < 72 && end != 19 {
			t.Errorf("torn at byte %d: the log ends at %d", torn, end)
		}
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
	}
	write(19, 40)
	checkChildLog(t, dir, 40)
}

func reversed(b []byte) []byte {
	r := bytes.Clone(b)
	for i, j := 0, len(r)-1; i < j; i, j = i+1, j-1 {
		r[i], r[j] = r[j], r[i]
	}
	return r
}

func TestEmbeddedFolderHasOneUser(t *testing.T) {
	e := openTest(t, EmbeddedConfig{})
	_, err := OpenEmbedded(EmbeddedConfig{Dir: e.config.Dir})
	if err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatalf("second open: %v", err)
	}
	if err := e.Publisher().Publish(t.Context(), nil, func(error) {}); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Publisher().Publish(t.Context(), nil, func(error) {}); !errors.Is(err, ErrClosed) {
		t.Fatalf("publish after close: %v", err)
	}
}
