package integration

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// monitor is what Redis says in MONITOR: every command that it executes, with the time.
type monitor struct {
	mu      sync.Mutex
	deletes map[string][]int64 // µs of each UNLINK or DEL, by key
	scans   int
	total   int
	changed chan struct{} // closed and replaced at each change
	conns   []net.Conn
	wg      sync.WaitGroup
}

// watchRedis starts MONITOR on each address; it ends with the test.
func watchRedis(t *testing.T, addrs ...string) *monitor {
	t.Helper()
	m := &monitor{deletes: map[string][]int64{}, changed: make(chan struct{})}
	t.Cleanup(m.close)
	for _, a := range addrs {
		m.attach(t, a)
	}
	return m
}

// attach returns once Redis has confirmed that it reports every later command.
func (m *monitor) attach(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	m.conns = append(m.conns, conn)
	m.mu.Unlock()
	in := bufio.NewReaderSize(conn, 1<<20)
	// Where no password is wanted, AUTH is refused, and that is all.
	_, err = fmt.Fprintf(conn, "*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\nMONITOR\r\n", len(secret), secret)
	if err == nil {
		_, err = in.ReadString('\n')
	}
	if err == nil {
		var answer string
		if answer, err = in.ReadString('\n'); err == nil && answer != "+OK\r\n" {
			err = fmt.Errorf("MONITOR: %s", answer)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	m.wg.Go(func() {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			m.line(strings.TrimSpace(line))
		}
	})
}

func (m *monitor) close() {
	m.mu.Lock()
	for _, c := range m.conns {
		_ = c.Close()
	}
	m.mu.Unlock()
	m.wg.Wait()
}

// line reads +1700000000.123456 [0 127.0.0.1:5555] "UNLINK" "key".
func (m *monitor) line(line string) {
	stamp, rest, ok := strings.Cut(strings.TrimPrefix(line, "+"), " ")
	_, words, ok2 := strings.Cut(rest, "] ")
	if !ok || !ok2 {
		return
	}
	sec, micro, _ := strings.Cut(stamp, ".")
	at, err := strconv.ParseInt(sec+micro, 10, 64)
	if err != nil {
		return
	}
	args := redisWords(words)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch strings.ToUpper(args[0]) {
	case "UNLINK", "DEL":
		for _, k := range args[1:] {
			m.deletes[k] = append(m.deletes[k], at)
			m.total++
		}
	case "SCAN":
		m.scans++
	default:
		return
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

// redisWords splits "a" "b\x00\"c" as MONITOR writes it.
func redisWords(s string) (args []string) {
	for i := 0; i < len(s); i++ {
		if s[i] != '"' {
			continue
		}
		var b strings.Builder
		for i++; i < len(s) && s[i] != '"'; i++ {
			if s[i] != '\\' {
				b.WriteByte(s[i])
				continue
			}
			i++
			switch s[i] {
			case 'x':
				n, _ := strconv.ParseUint(s[i+1:i+3], 16, 8)
				b.WriteByte(byte(n))
				i += 2
			case 'n', 'r', 't', 'a', 'b':
				b.WriteByte("\n\r\t\a\b"[strings.IndexByte("nrtab", s[i])])
			default:
				b.WriteByte(s[i])
			}
		}
		args = append(args, b.String())
	}
	return append(args, make([]string, max(0, 1-len(args)))...)
}

// times returns when a key was deleted.
func (m *monitor) times(key string) []int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.deletes[key]
}

// snapshot returns all deletes.
func (m *monitor) snapshot() map[string][]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.deletes)
}

// forget empties the record.
func (m *monitor) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deletes, m.scans = map[string][]int64{}, 0
}

func (m *monitor) scanCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.scans
}

// stalled is how long nothing at all may happen before a wait gives up.
const stalled = 60 * time.Second

// wait returns once done says so, looking again after each delete. It returns false when Redis has executed no delete
// for the patience.
func (m *monitor) wait(t *testing.T, patience time.Duration, done func() bool) bool {
	t.Helper()
	for {
		m.mu.Lock()
		changed := m.changed
		m.mu.Unlock()
		if done() {
			return true
		}
		select {
		case <-changed:
			time.Sleep(5 * time.Millisecond) // deletes come in thousands: look once for many
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(patience):
			return done()
		}
	}
}

// count is the number of deletes so far.
func (m *monitor) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}
