package deleter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// calm asks about now, or a time, and returns the end of the newest stall.
func calm(t *testing.T, r *Redis, at time.Time) (since time.Time) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	seen, err := r.Calm(ctx, at)
	if err != nil {
		t.Fatalf("calm: %v", err)
	}
	for _, node := range seen {
		for i, s := range node {
			if s.From.After(s.To) || i > 0 && s.To.Before(node[i-1].To) {
				t.Errorf("stalls %+v", node)
			}
			if s.To.After(since) {
				since = s.To
			}
		}
	}
	return since
}

// noise bounds what a busy machine may take for an answer in the tests that look
// for a stall of a second or more.
const noise = 500 * time.Millisecond

func TestCalm(t *testing.T) {
	for name, server := range map[string]func(testing.TB, ...testenv.RedisOptions) *testenv.Server{
		"redis": envtest.Redis, "valkey": envtest.Valkey,
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, Config{Addrs: []string{server(t, memory).Addr}, Stall: noise})
			began := time.Now()
			since := calm(t, r, began)
			if since.Before(began) || since.After(time.Now()) {
				t.Errorf("calm since %v after watching began", since.Sub(began))
			}
			for range 20 {
				at := time.Now()
				if again := calm(t, r, at); !again.Equal(since) {
					t.Errorf("a stall that ended %v later", again.Sub(since))
				}
				if d := time.Since(at); d > noise {
					t.Errorf("took %v", d)
				}
			}
		})
	}
}

// pauseServer freezes a server and returns what thaws it.
func pauseServer(t *testing.T, s *testenv.Server) (resume func()) {
	t.Helper()
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Resume() }) //nolint:errcheck // may run by now
	return func() {
		if err := s.Resume(); err != nil {
			t.Error(err)
		}
	}
}

// TestStallUnderADelete is H18: Redis stands still with a large SET on its way,
// and a delete that is sent near the end of the stall has a short round trip. It
// may run before the SET, so the stall must be known to have ended after it was
// sent.
func TestStallUnderADelete(t *testing.T) {
	s := envtest.Redis(t, memory)
	r, c := open(t, Config{Addrs: []string{s.Addr}, Stall: noise}), plain(t, s)
	ctx := t.Context()
	const frozen = 1500 * time.Millisecond
	behind := 0
	for i := range 5 {
		key := fmt.Sprintf("item:%d", i)
		if err := r.Delete(ctx, []string{key}); err != nil { // connected
			t.Fatal(err)
		}
		calm(t, r, time.Now())
		resume := pauseServer(t, s)
		set := sendSet(t, s.Addr, key, 1<<20)
		thaw := time.AfterFunc(frozen, resume)
		// Nothing else can be waited for: the stall is what is tested.
		<-time.After(frozen - 20*time.Millisecond)
		sent := time.Now()
		if err := r.Delete(ctx, []string{key}); err != nil {
			t.Fatal(err)
		}
		trip := time.Since(sent)
		thaw.Stop()
		since := calm(t, r, time.Now())
		if !since.After(sent) {
			t.Errorf("try %d: a delete with a round trip of %v counts: calm since %v before it was sent", i, trip, sent.Sub(since))
		}
		if err := <-set; err != nil {
			t.Fatal(err)
		}
		n, err := c.Exists(ctx, key).Result()
		if err != nil {
			t.Fatal(err)
		}
		behind += int(n)
		t.Logf("try %d: the delete's round trip took %v", i, trip)
		sent = time.Now()
		if err := r.Delete(ctx, []string{key}); err != nil {
			t.Fatal(err)
		}
		if since := calm(t, r, time.Now()); since.After(sent) {
			t.Errorf("try %d: a stall without a cause", i)
		}
	}
	t.Logf("in %d of 5 tries the SET ran behind the delete", behind)
}

// sendSet sends a SET on a connection of its own; the channel gets what became
// of it.
func sendSet(t *testing.T, addr, key string, size int) <-chan error {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		defer conn.Close() //nolint:errcheck // a test's connection
		_, err := fmt.Fprintf(conn, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key, size, bytes.Repeat([]byte("x"), size))
		reply := make([]byte, 5)
		if err == nil {
			_, err = conn.Read(reply)
		}
		if err == nil && !bytes.HasPrefix(reply, []byte("+OK")) {
			err = fmt.Errorf("SET: %q", reply)
		}
		done <- err
	}()
	return done
}

// A stall of one master of a Cluster is a stall; while it lasts nothing is known.
func TestStallInACluster(t *testing.T) {
	cluster := envtest.RedisCluster(t)
	r := open(t, Config{Addrs: cluster.Addrs()[:1], Stall: noise})
	first := calm(t, r, time.Now())
	frozen := time.Now()
	resume := pauseServer(t, cluster.Masters[1])
	short, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond)
	defer cancel()
	if since, err := r.Calm(short, time.Now()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("calm since %v, %v, while a master stands still", since, err)
	}
	resume()
	since := calm(t, r, time.Now())
	if since.Sub(frozen) < 800*time.Millisecond || !since.After(first) {
		t.Errorf("the stall ended %v after it began", since.Sub(frozen))
	}
}

// A replica that takes over is new: what it had to do before is not known. The
// old master's connections stay open, so nothing else shows it.
func TestCalmAfterAClusterFailover(t *testing.T) {
	cluster := envtest.RedisCluster(t, testenv.ClusterOptions{Replicas: 1})
	r := open(t, Config{Addrs: cluster.Addrs(), Stall: noise})
	calm(t, r, time.Now())
	replica := plain(t, cluster.Replicas[0])
	began := time.Now()
	eventually(t, "failover", func() error {
		s, err := whatIs(t.Context(), replica)
		if err == nil && s.role != "master" {
			// A busy machine may let its manual failover run out of time: ask again. It is
			// an error while one is under way.
			err = errors.Join(errors.New("still a replica"), replica.ClusterFailover(t.Context()).Err())
		}
		return err
	})
	eventually(t, "a stall", func() error { // the others must have heard of it
		if since := calm(t, r, time.Now()); since.Before(began) {
			return fmt.Errorf("calm since %v before the failover", began.Sub(since))
		}
		return nil
	})
}

func TestCalmAfterASentinelFailover(t *testing.T) {
	s := envtest.RedisSentinel(t)
	r := open(t, Config{Addrs: s.Addrs(), Master: s.Name, Stall: noise})
	calm(t, r, time.Now())
	began := time.Now()
	if err := s.Master.Kill(); err != nil {
		t.Fatal(err)
	}
	if since := calm(t, r, time.Now()); since.Before(began) {
		t.Errorf("calm since %v before the failover", began.Sub(since))
	}
	if sent := time.Now(); r.Delete(t.Context(), []string{"a"}) != nil || calm(t, r, time.Now()).After(sent) {
		t.Error("no calm after the failover")
	}
}

// A broken connection is a stall, however soon the next one answers.
func TestBrokenConnectionIsAStall(t *testing.T) {
	s := envtest.Redis(t, memory)
	r := open(t, Config{Addrs: []string{s.Addr}, Stall: noise})
	calm(t, r, time.Now())
	began := time.Now()
	if err := plain(t, s).Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a stall", func() error {
		if since := calm(t, r, time.Now()); since.Before(began) {
			return errors.New("none")
		}
		return nil
	})
}

// Where nobody answers, Calm waits: for its context, or for the end of r.
func TestCalmWithoutRedis(t *testing.T) {
	r := open(t, Config{Addrs: []string{"127.0.0.1:" + freePort(t)}})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := r.Calm(ctx, time.Now()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("calm: %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := r.Calm(t.Context(), time.Now())
		ended <- err
	}()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, redis.ErrClosed) {
		t.Errorf("calm at the end: %v", err)
	}
	if _, err := r.Calm(t.Context(), time.Now()); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("calm after the end: %v", err)
	}
	stacks := new(strings.Builder)
	if err := pprof.Lookup("goroutine").WriteTo(stacks, 1); err != nil || strings.Contains(stacks.String(), "(*watch).") {
		t.Errorf("goroutines are left: %v\n%s", err, stacks)
	}
}

// BenchmarkWatch is what a process spends on watching one node for a second.
func BenchmarkWatch(b *testing.B) {
	s := envtest.Redis(b, memory)
	r := open(b, Config{Addrs: []string{s.Addr}})
	if _, err := r.Calm(b.Context(), time.Now()); err != nil {
		b.Fatal(err)
	}
	before := cpu(b)
	for b.Loop() {
		time.Sleep(time.Second)
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/s")
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
