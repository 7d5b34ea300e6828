package testenv_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// helperVar makes the test binary play another process: see helpers.
const helperVar = "DOUBLETAP_TESTENV_HELPER"

func TestMain(m *testing.M) {
	if f := helpers[os.Getenv(helperVar)]; f != nil {
		if err := f(os.Getenv(helperVar + "_DIR")); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	envtest.Main(m)
}

var helpers = map[string]func(dir string) error{
	// hold starts servers, prints their process ids and the data folder, and waits to be killed.
	"hold": func(dir string) error {
		mode, _, err := testenv.ModeFromEnv()
		if err != nil {
			return err
		}
		e, err := testenv.Open(context.Background(), testenv.Options{Mode: mode, DataDir: dir})
		if err != nil {
			return err
		}
		r, err := e.Redis(context.Background(), testenv.RedisOptions{})
		if err != nil {
			return err
		}
		m, err := e.MySQL(context.Background(), testenv.MySQLOptions{Fast: true})
		if err != nil {
			return err
		}
		fmt.Println(r.Pid(), m.Pid(), e.Root())
		select {}
	},
	// build makes a component slowly and prints when it begins and what it got.
	"build": func(dir string) error {
		path, err := testenv.Folder(context.Background(), dir, "thing", func(dir string) error {
			fmt.Println("begins")
			if os.Getenv(helperVar+"_SLOW") != "" {
				select {}
			}
			return os.WriteFile(filepath.Join(dir, "content"), []byte("whole"), 0o644)
		})
		fmt.Println("got", path)
		return err
	},
}

// helper starts this test binary as another process and returns what it prints.
func helper(t *testing.T, name, dir string, env ...string) (*osexec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := osexec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), append(env, helperVar+"="+name, helperVar+"_DIR="+dir)...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(out)
}

func TestServersDieWithTheirKilledOwner(t *testing.T) {
	envtest.Redis(t) // skips where servers cannot start
	envtest.MySQL(t)
	dir := t.TempDir()
	cmd, out := helper(t, "hold", dir)
	line, err := out.ReadString('\n')
	var redis, mysql int
	var root string
	if n, _ := fmt.Sscan(line, &redis, &mysql, &root); n != 3 || redis == 0 || mysql == 0 {
		t.Fatalf("helper printed %q, %v", line, err)
	}
	if !alive(redis) || !alive(mysql) {
		t.Fatal("servers do not run")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	dead := func() bool { return !alive(redis) && !alive(mysql) }
	if strings.HasPrefix(envtest.Shared(t).Describe(), "native") {
		waitFor(t, "the servers to die", dead)
	}
	open(t, dir)
	waitFor(t, "containers to be swept", dead)
	if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead run's data is still there: %v", err)
	}
}

// open opens an environment of the test's own, as TESTENV says.
func open(t *testing.T, dir string) *testenv.Env {
	t.Helper()
	mode, _, err := testenv.ModeFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	e, err := testenv.Open(t.Context(), testenv.Options{DataDir: dir, Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// alive tells whether a process runs; one that only waits to be reaped does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

func TestOneProcessBuildsAndAKilledOneLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	killed, out := helper(t, "build", dir, helperVar+"_SLOW=yes")
	if line, err := out.ReadString('\n'); line != "begins\n" {
		t.Fatalf("first process printed %q, %v", line, err)
	}
	_, second := helper(t, "build", dir)
	_, third := helper(t, "build", dir)
	_ = killed.Process.Kill()
	_ = killed.Wait()

	a, _ := io.ReadAll(second)
	b, _ := io.ReadAll(third)
	both := string(a) + string(b)
	if n := strings.Count(both, "begins"); n != 1 {
		t.Errorf("%d processes built it:\n%s", n, both)
	}
	_, path, _ := strings.Cut(string(a), "got ")
	path = strings.TrimSpace(path)
	if strings.Count(both, path) != 2 {
		t.Errorf("the processes got different folders:\n%s", both)
	}
	if text, err := os.ReadFile(filepath.Join(path, "content")); string(text) != "whole" {
		t.Errorf("content is %q, %v", text, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "unfinished*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func TestPortTakenByAStranger(t *testing.T) {
	s, stranger, err := envtest.Shared(t).RedisOnTakenPort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	defer stranger.Close()
	if s.Addr == stranger.Addr().String() {
		t.Fatal("Redis and the stranger have the same address")
	}
}

func TestPauseAndResume(t *testing.T) {
	s := envtest.Redis(t, testenv.RedisOptions{})
	c := testenv.OpenRedis(s)
	defer c.Close()
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.Ping(ctx).Err(); !errors.Is(err, context.DeadlineExceeded) && !os.IsTimeout(err) {
		t.Errorf("a paused server: %v", err)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Errorf("a resumed server: %v", err)
	}
}

func TestCloseRemovesEverything(t *testing.T) {
	envtest.Redis(t) // skips where servers cannot start
	e := open(t, t.TempDir())
	s, err := e.Redis(t.Context(), testenv.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := ": redis " + s.Version(); !strings.HasSuffix(e.Describe(), want) {
		t.Errorf("Describe: %q, want %q", e.Describe(), want)
	}
	pid := s.Pid()
	if err := errors.Join(e.Close(), e.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(e.Root()); !errors.Is(err, os.ErrNotExist) || alive(pid) {
		t.Errorf("after Close: data %v, process alive %v", err, alive(pid))
	}
	if _, err := e.Redis(t.Context(), testenv.RedisOptions{}); err == nil {
		t.Error("a closed environment starts servers")
	}
}

func TestModeFromEnv(t *testing.T) {
	for text, want := range map[string]string{
		"": "auto false", "auto": "auto false", "docker": "docker false", "native": "native false", "require": "auto true",
		"native,require": "native true", "require, Docker": "docker true", "podman": "error", "native,docker": "error",
	} {
		mode, require, err := testenv.ParseMode(text)
		got := fmt.Sprint(mode, " ", require)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("TESTENV=%q: %s, want %s", text, got, want)
		}
	}
}
