package binlog

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// syncBuffer is a log that one goroutine writes and another reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
		pause(t.Context(), 5*time.Millisecond)
	}
}

func TestLockHasOneHolder(t *testing.T) {
	cfg := rootConfig(envtest.MySQL(t))
	name := strings.Repeat("a very long name ", 20) + envtest.Topic(t)
	first, err := Lock(t.Context(), cfg, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(first.Release)
	var log syncBuffer
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	second := make(chan *SourceLock, 1)
	go func() {
		l, err := Lock(t.Context(), cfg, name)
		if err != nil {
			t.Error(err)
		}
		second <- l
	}()
	eventually(t, "a log line of the standby", func() bool { return strings.Contains(log.String(), "standing by") })
	select {
	case <-second:
		t.Fatal("two holders")
	default:
	}
	first.Release()
	l := <-second
	t.Cleanup(l.Release)
	select {
	case <-l.Lost():
		t.Error("lost while held")
	default:
	}

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Lock(ctx, cfg, name); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock with an ended context: %v", err)
	}
}

func TestLockTellsItsLoss(t *testing.T) {
	s := envtest.MySQL(t)
	l, err := Lock(t.Context(), rootConfig(s), envtest.Topic(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Release)
	mustExec(t, mustConnect(t, rootConfig(s)), "KILL "+strconv.Itoa(int(l.sess.conn.GetConnectionID())))
	select {
	case <-l.Lost():
	case <-time.After(30 * time.Second):
		t.Error("the loss was not noticed within 30 s")
	}
}

func TestLeaseServerID(t *testing.T) {
	cfg := rootConfig(envtest.MySQL(t))
	a, releaseA, err := LeaseServerID(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	b, releaseB, err := LeaseServerID(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer releaseB()
	if a == b || a < firstLeasedID || b < firstLeasedID {
		t.Errorf("leased %d and %d", a, b)
	}
	explicit := cfg
	explicit.ServerID = a
	if _, _, err := LeaseServerID(t.Context(), explicit); err == nil || !strings.Contains(err.Error(), "holds its lock") {
		t.Errorf("the id of another doubletap: %v", err)
	}
	releaseA()
	eventually(t, "the id is free again", func() bool {
		_, release, err := LeaseServerID(t.Context(), explicit)
		if err == nil {
			release()
		}
		return err == nil
	})
}

func TestLeaseServerIDExplainsWhoHasIt(t *testing.T) {
	cfg := rootConfig(envtest.MySQL(t))
	srv, err := Detect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ServerID = srv.ServerID
	if _, _, err := LeaseServerID(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "in use by the source itself") {
		t.Errorf("the source's own id: %v", err)
	}
	host, port := splitAddr(t, cfg.Addr)
	syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: 4711, Flavor: srv.Flavor, Host: host, Port: port, User: cfg.User, Localhost: "tailer.example",
		DisableRetrySync: true, Logger: slog.New(slog.DiscardHandler),
	})
	defer syncer.Close()
	if _, err := syncer.StartSync(follow(t, t.Context(), cfg).at); err != nil {
		t.Fatal(err)
	}
	cfg.ServerID = 4711
	eventually(t, "the tailer is in SHOW REPLICAS", func() bool {
		_, release, err := LeaseServerID(t.Context(), cfg)
		if err == nil {
			release()
			return false
		}
		return strings.Contains(err.Error(), "in use by a replica or tailer on tailer.example")
	})
}
